"""The files of Istio's images, as its Dockerfiles lay them out: pilot/docker/Dockerfile.pilot and .proxyv2, on top of
what docker/Dockerfile.base installs, as far as Istio itself calls it."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.images.rootfs import Rootfs
from tests.cluster.istio import envoy, module
from tests.cluster.targets import istio_version

TARGETS = ("pilot-discovery", "pilot-agent")
PROXY_USER = "istio-proxy:x:1337:1337::/home/istio-proxy:/bin/sh\n"
PROXY_GROUP = "istio-proxy:x:1337:\n"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PROXY_TOOLS = ("conntrack", "curl", "ip", "nft", "ss")
XTABLES = {"nft": "xtables-nft-multi", "legacy": "xtables-legacy-multi"}
XTABLES_PLUGINS = "/usr/lib/*/xtables"


def inputs() -> str:
    """Changes when what the images are made from changes, the Debian packages aside."""
    return f"{[str(build.built_path(name)) for name in TARGETS]} {envoy.path()}"


def pilot_files(users: str, groups: str) -> Rootfs:
    """istiod and the certificates it trusts. `users`, `groups`: what /etc/passwd and /etc/group hold already."""
    tree = Rootfs()
    tree.add_file("/usr/local/bin/pilot-discovery", build.ensure("pilot-discovery"), 0o755)
    _add_base(tree, users, groups)
    return tree


def proxy_files(users: str, groups: str) -> Rootfs:
    """pilot-agent, Envoy and the programs that `pilot-agent istio-iptables` runs."""
    tree = Rootfs()
    tree.add_file("/usr/local/bin/pilot-agent", build.ensure("pilot-agent"), 0o755)
    tree.add_program(str(envoy.ensure()), "/usr/local/bin/envoy")
    tree.add_file("/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", module.bootstrap_template(), 0o644)
    for name in PROXY_TOOLS:
        tree.add_program(name)
    _add_xtables(tree)
    _add_base(tree, users, groups)
    return tree


def proxy_environment() -> str:
    """The one variable that the image itself sets."""
    return f"ISTIO_META_ISTIO_PROXY_SHA=envoy-{envoy.VERSION}-istio-{istio_version()}"


def _add_base(tree: Rootfs, users: str, groups: str) -> None:
    tree.add_file(str(CERTIFICATES), CERTIFICATES)
    tree.add_text("/etc/passwd", users + PROXY_USER)
    tree.add_text("/etc/group", groups + PROXY_GROUP)
    tree.add_directory("/home/istio-proxy", 0o755, 1337, 1337)


def _add_xtables(tree: Rootfs) -> None:
    """iptables and ip6tables over nf_tables and over the old tables; the short names mean nf_tables, as upstream's."""
    for backend, program in XTABLES.items():
        tree.add_program(program, f"/usr/sbin/{program}")
        for family in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                tree.add_symlink(f"/usr/sbin/{family}-{backend}{verb}", program)
    for family in ("iptables", "ip6tables"):
        for verb in ("", "-save", "-restore"):
            tree.add_symlink(f"/usr/sbin/{family}{verb}", XTABLES["nft"])
    directories = sorted(Path("/").glob(XTABLES_PLUGINS.lstrip("/")))
    if not directories:
        raise ClusterError("there are no plug-ins of iptables on this machine, an image needs them")
    for directory in directories:
        tree.add_tree(str(directory), directory)
