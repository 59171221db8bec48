"""The control plane from the command line: `python -m tests.cluster up --state DIR --address 10.201.0.1`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.cluster import approver, metrics
from tests.cluster.components import COMPONENTS
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.state import StateDir, default_state


def main(argv: list[str] | None = None) -> int:
    """0; 1 when `status` finds something down; 3 with what went wrong and the next step on stderr."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(ControlPlane(StateDir(options.state.resolve())), options) or 0)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3


def _up(plane: ControlPlane, options: argparse.Namespace) -> None:
    version = plane.binaries.version
    started = time.monotonic()
    plane.up(options.address, options.port, options.bind, dual_stack=options.dual_stack)
    print(f"Kubernetes {version} ready at {plane.url} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(plane.kubeconfig)


def _down(plane: ControlPlane, options: argparse.Namespace) -> None:
    plane.down()


def _status(plane: ControlPlane, options: argparse.Namespace) -> int:
    print(plane.url)
    rows = plane.status()
    for name, pid, healthy in rows:
        print(f"{name:<28}{pid or '-':<10}{'ok' if healthy else 'down' if not pid else 'not answering'}")
    return 0 if all(healthy for _, _, healthy in rows) else 1


def _component(plane: ControlPlane, options: argparse.Namespace) -> None:
    verbs = {"start": plane.start, "stop": plane.stop, "freeze": plane.freeze, "thaw": plane.thaw}
    verbs[options.verb](options.component)


def _kubeconfig(plane: ControlPlane, options: argparse.Namespace) -> None:
    if options.service_account:
        namespace, _, name = options.service_account.partition("/")
        print(plane.service_account_kubeconfig(namespace, name))
    elif options.user:
        print(plane.kubeconfig_for(options.user, options.group))
    else:
        plane.state.require()
        print(plane.kubeconfig)


def _kubectl_path(plane: ControlPlane, options: argparse.Namespace) -> None:
    print(plane.binaries["kubectl"])


def _metrics_server(plane: ControlPlane, options: argparse.Namespace) -> None:
    (metrics.up if options.action == "up" else metrics.down)(plane)


def _approver(plane: ControlPlane, options: argparse.Namespace) -> None:
    policy = approver.Policy(tuple(options.node), tuple(options.network), tuple(options.requestor))
    match options.action:
        case "up":
            approver.up(plane, policy)
        case "down":
            approver.down(plane)
        case "run":
            approver.run(plane, policy)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--state", type=Path, default=default_state().root, help="state directory (%(default)s)")
        made.set_defaults(run=run, verb=name)
        return made

    up = command("up", _up, "start what is not running; prints the administrator's kubeconfig")
    up.add_argument("--address", default="127.0.0.1", help="IP address clients dial, as the bridge's (%(default)s)")
    up.add_argument("--bind", help="IP address to listen on when it is another one, as 0.0.0.0")
    up.add_argument("--port", type=int, default=6443, help="port of the API server, 0 for any (%(default)s)")
    up.add_argument("--dual-stack", action="store_true", help="Services of both IP families")
    command("down", _down, "stop everything and delete the state directory")
    command("status", _status, "what runs")
    for verb, text in (
        ("start", "start a component"),
        ("stop", "stop a component"),
        ("freeze", "SIGSTOP a component"),
        ("thaw", "SIGCONT a component"),
    ):
        command(verb, _component, text).add_argument("component", choices=COMPONENTS)
    kubeconfig = command("kubeconfig", _kubeconfig, "print the path of a kubeconfig")
    kubeconfig.add_argument("--user", help="issue a client certificate of this user")
    kubeconfig.add_argument("--group", action="append", default=[], help="a group of the user; may be repeated")
    kubeconfig.add_argument("--service-account", metavar="NAMESPACE/NAME", help="issue a token of a ServiceAccount")
    command("kubectl-path", _kubectl_path, "print the path of kubectl")
    metrics_server = command("metrics-server", _metrics_server, "metrics-server as a process of this machine")
    metrics_server.add_argument("action", choices=("up", "down"))
    approve = command("approver", _approver, "approve serving certificates of our own nodes")
    approve.add_argument("action", choices=("up", "down", "run"))
    approve.add_argument("--node", action="append", default=[], help="name or pattern of a node; may be repeated")
    approve.add_argument("--network", action="append", default=[], help="addresses the certificate may name (CIDR)")
    approve.add_argument("--requestor", action="append", default=[], help="user that may ask for every such node")
    return parser


if __name__ == "__main__":
    sys.exit(main())
