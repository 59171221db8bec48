"""`python -m tests.demo up|show|istio|metrics|hpa|down|kubeconfig|registry`: what the Makefile's demo targets call."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from tests.cluster import containerd2
from tests.cluster.cache import only_one
from tests.cluster.errors import ClusterError
from tests.demo import autoscaling, cluster
from tests.demo.environment import E2E_IMAGES, Environment, default_root, mesh_environment
from tests.demo.mesh import MeshShowcase
from tests.demo.showcase import Showcase, closing_words

UP = ("up", "show", "demo", "istio")
COMMANDS = (*UP, "metrics", "hpa", "down", "kubeconfig", "registry")
KUBELET, KUBELET_NETWORK = "kubelet", "10.199.0.0/23"
IPV6_SUBNET = "fd00:201::/64"
SPARES = 1
"""Instances that are ready before a pod asks; not where others run their specs, and count instances."""
AGAIN = "\nnext:  the same command again"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--root", type=Path, default=default_root(), help="where it keeps its state (%(default)s)")
    parser.add_argument("--cloud", choices=("local", "simulated", "aws"), default="local")
    parser.add_argument("--name", default="demo", help="of the local cloud; two demos need two names and subnets")
    parser.add_argument("--subnet", default="10.201.0.0/16")
    parser.add_argument("--dual-stack", action="store_true", help=f"with IPv6 ({IPV6_SUBNET}) beside IPv4")
    parser.add_argument("--untainted", action="store_true", help="register the node without taints")
    parser.add_argument("--mixed", action="store_true", help=f"with a real kubelet beside it, the Node {KUBELET}")
    parser.add_argument("--e2e", action="store_true", help="with the images of Kubernetes' own specs, preloaded")
    options = parser.parse_args(arguments)
    try:
        with _alone(options):
            _run(options)
    except ClusterError as error:
        print(f"\nerror: {error}{_what_is_left(options)}", file=sys.stderr)
        return 3
    except OSError as error:  # a full disk, a directory that is read-only
        print(f"\nerror: {error}\nnext:  mend that, then the same command{_what_is_left(options)}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\ninterrupted{_what_is_left(options) or AGAIN}", file=sys.stderr)
        return 130
    return 0


def _alone(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Two that bring the same cluster up or down at the same time would take each other's parts away."""
    if options.command not in (*UP, "down"):
        return nullcontext()
    root = options.root.resolve()
    return only_one(root.with_name(f"{root.name}.lock"), "`make demo` or `make demo-down`")


def _what_is_left(options: argparse.Namespace) -> str:
    """A line about what runs when bringing up has ended early."""
    if options.command in UP and Environment.load(options.root.resolve()):
        target = "demo-istio" if options.command == "istio" else "demo-mixed" if options.mixed else "demo"
        if options.cloud != "local":  # another cloud's demo would take this one down
            target += f" CLOUD={options.cloud}"
        return f"\n       `make {target}` goes on with what is up already, `make demo-down` takes it away"
    return ""


def _environment(options: argparse.Namespace) -> Environment:
    address = options.subnet.split("/")[0].rsplit(".", 1)[0] + ".1"
    if options.command == "istio":
        return mesh_environment(options.root.resolve(), options.name, options.subnet, address)
    return Environment(
        options.root.resolve(),
        options.name,
        options.cloud,
        options.subnet,
        address,
        taint=not options.untainted,
        daemonsets="run" if options.untainted else "refuse",
        preload_images=E2E_IMAGES if options.e2e else ("busybox:latest",),
        containerd=containerd2.default(),
        kubelet_node=KUBELET if options.mixed else "",
        kubelet_network=KUBELET_NETWORK if options.mixed else "",
        resolver=options.cloud != "simulated",
        dns=options.cloud != "simulated",
        ipv6_subnet=IPV6_SUBNET if options.dual_stack and options.cloud == "local" else "",
        pool=SPARES if options.cloud == "local" and not (options.untainted or options.e2e) else 0,
    )


def _run(options: argparse.Namespace) -> None:
    known = Environment.load(options.root.resolve())
    if options.command == "down":
        cluster.down(known or _environment(options))
        cluster.remove_bytecode()
        return
    if options.command in ("metrics", "hpa", "kubeconfig", "registry"):
        if known is None:
            raise ClusterError("no demo is running", "make demo")
        if options.command == "metrics":
            cluster.metrics_server(known)
            return
        if options.command == "hpa":
            autoscaling.run(known)
            return
        print(cluster.kubeconfig(known) if options.command == "kubeconfig" else known.registry)
        return
    environment = _environment(options)
    if known is not None:  # a containerd that was built meanwhile is no reason to begin anew
        environment = replace(environment, containerd=known.containerd)
    if known is not None and known != environment and options.command != "show":
        print("another demo is running; it is taken down first", flush=True)
        cluster.down(known)
    started = time.monotonic()
    plane = cluster.control_plane(environment) if options.command == "show" else cluster.up(environment)
    if options.command == "istio":
        MeshShowcase(environment, plane).run()
    if options.command in ("show", "demo"):
        Showcase(environment, plane).run()
    if options.command in ("show", "demo", "istio"):
        closing_words(environment, plane.kubeconfig)
    print(f"\n{time.monotonic() - started:.0f} s in all", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
