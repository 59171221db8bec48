"""Cluster DNS: CoreDNS as a Deployment at the cluster DNS address, and the resolver of the instances' network.

A cloud's network has a resolver of its own; on this machine it is one more CoreDNS, at the machine's address in the
network. Instances have it in their resolv.conf, so the cluster's CoreDNS forwards to it what is outside the cluster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.images.catalog import COREDNS
from tests.cluster.state import CLUSTER_DNS, CLUSTER_DOMAIN
from vk_provider.podmodel.dns import parse_resolv_conf
from vk_provider.podmodel.errors import ResolvConfError

RESOLVER, RESOLVER_PORT = "resolver", 53
NAMESPACE = "kube-system"
MANIFEST = Path(__file__).parents[2] / "manifests" / "demo" / "dns.yaml"
READY_S = 120


def resolver_up(plane: ControlPlane, name: str, resolv_conf: Path = Path("/etc/resolv.conf")) -> None:
    """Start the resolver at the API server's address; `down` of the control plane ends it.

    It knows this machine as host.NAME.internal and asks the nameservers of `resolv_conf` for everything else.
    """
    address = plane.state.require().address
    corefile = plane.state.root / "resolver.Corefile"
    corefile.write_text(resolver_corefile(address, name, resolv_conf))
    plane.state.process(RESOLVER).start([str(build.ensure("coredns")), "-conf", str(corefile)])


def resolver_corefile(address: str, name: str, resolv_conf: Path) -> str:
    """The resolver's configuration. On a machine that knows no nameserver, names outside do not exist."""
    outside = "template ANY ANY {\n        rcode NXDOMAIN\n    }"
    try:
        if parse_resolv_conf(resolv_conf.read_text(errors="replace")).nameservers:
            outside = f"forward . {resolv_conf} {{\n        max_concurrent 1000\n    }}\n    cache 30"
    except (OSError, ResolvConfError):
        pass
    return f"""\
host.{name}.internal:53 {{
    bind {address}
    errors
    hosts {{
        {address} host.{name}.internal
    }}
}}
.:53 {{
    bind {address}
    errors
    {outside}
}}
"""


def manifest(registry: str) -> str:
    """The objects of cluster DNS as YAML, with the image in `registry` (host:port)."""
    text = MANIFEST.read_text()
    values = {
        "REGISTRY/IMAGE": f"{registry}/{COREDNS}",
        "CLUSTER_DOMAIN": CLUSTER_DOMAIN,
        "CLUSTER_DNS": CLUSTER_DNS,
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def up(plane: ControlPlane, registry: str) -> None:
    """Deploy CoreDNS, or bring what runs up to date; its image is in `registry`. `wait` for it then."""
    plane.kubectl("apply", "-f", "-", stdin=manifest(registry))


def wait(plane: ControlPlane) -> None:
    """Until every replica is Ready, which it is once it knows the cluster's Services. Raises ClusterError."""
    rollout = ("-n", NAMESPACE, "rollout", "status", "deployment/coredns", f"--timeout={READY_S}s")
    result = plane.kubectl(*rollout, check=False, timeout_s=READY_S + 10)
    if result.returncode:
        pods = plane.kubectl("-n", NAMESPACE, "get", "pods,events", check=False).stdout
        logs = plane.kubectl(
            "-n", NAMESPACE, "logs", "-l", "k8s-app=kube-dns", "--prefix", "--tail=5", check=False
        ).stdout
        raise ClusterError(
            f"CoreDNS does not become Ready: {result.stderr.strip()}\n{pods}\n{logs}", "see its events and log above"
        )


@contextlib.contextmanager
def running(plane: ControlPlane, registry: str) -> Iterator[None]:
    """CoreDNS, Ready, for a while. Its image is in `registry`."""
    up(plane, registry)
    try:
        wait(plane)
        yield
    finally:
        down(plane, registry)


def down(plane: ControlPlane, registry: str) -> None:
    """Take CoreDNS away and wait until its pods are gone."""
    plane.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifest(registry))
    gone = ("-n", NAMESPACE, "wait", "pods", "-l", "k8s-app=kube-dns", "--for=delete", f"--timeout={READY_S}s")
    plane.kubectl(*gone, timeout_s=READY_S + 10)
