"""The pod network of this instance: CNI configuration, containerd's registry hosts.

The pod IP is the interface's secondary address, routed to the pod through a veth pair (CNI's ptp); the instance answers
ARP for it by proxy_arp (neighbour solicitations by proxy_ndp), so that the pod address is reachable like any other.
hostPort is CNI's portmap.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from vk_provider.agent.facts import InstanceFacts
from vk_provider.errors import AgentError

METADATA_ADDRESS = "169.254.169.254"

_OURS = "# written by vk-provider agent\n"
_REGISTRY_HOST = re.compile(r"_default|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")


class NetworkError(AgentError):
    """The instance's network could not be set up."""


@dataclass(frozen=True, slots=True)
class NetworkPaths:
    """Directories of the instance that belong to its containerd.

    cni_conf_dir, certs_dir: where containerd looks for network lists and for registry hosts
    ipam_dir:                where CNI's host-local notes that the pod's address is taken; must not outlive a reboot
    """

    cni_conf_dir: Path = Path("/etc/cni/net.d")
    certs_dir: Path = Path("/etc/containerd/certs.d")
    ipam_dir: Path = Path("/run/vk-agent/ipam")


def build_cni_conflist(
    primary_ip: str,
    pod_ip: str,
    subnet_cidr: str,
    ipam_dir: Path,
    mtu: int = 0,
    ipv6: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    """The CNI network list that gives a pod exactly `pod_ip`, with `primary_ip` as its gateway.

    ipv6: the same three values of the other family

    Raises NetworkError when the addresses do not fit the subnet.
    """
    ranges, routes = [[_build_pool(primary_ip, pod_ip, subnet_cidr)]], [{"dst": "0.0.0.0/0"}]
    if ipv6 is not None:
        ranges.append([_build_pool(*ipv6)])
        routes.append({"dst": "::/0"})
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": str(ipam_dir)}
    ptp: dict[str, Any] = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    if mtu:
        ptp["mtu"] = mtu
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    plugins = [*(_NO_ADDRESS_DETECTION if ipv6 is not None else ()), ptp, portmap]
    return {"cniVersion": "0.4.0", "name": "pod-network", "plugins": plugins}


_NO_ADDRESS_DETECTION: tuple[dict[str, Any], ...] = (
    {"type": "loopback"},
    {
        "type": "tuning",
        "sysctl": {f"net.ipv6.conf.{interface}.accept_dad": "0" for interface in ("all", "default")},
    },
)
"""ptp waits until no IPv6 address is tentative: up to two seconds for duplicate address detection on a link that only
has this pod. It is off before ptp makes the interface; tuning needs a result before its own, which is loopback's."""


def _build_pool(gateway: str, address: str, subnet_cidr: str) -> dict[str, str]:
    try:
        subnet = ipaddress.ip_network(subnet_cidr, strict=False)
    except ValueError:
        raise NetworkError(f"the subnet {subnet_cidr!r} of the pod address {address} is not a network") from None
    if ipaddress.ip_address(address) not in subnet:
        raise NetworkError(f"the pod address {address} is not in the subnet {subnet_cidr}")
    return {"subnet": str(subnet), "rangeStart": address, "rangeEnd": address, "gateway": gateway}


def write_cni_conflist(conflist: Mapping[str, Any], directory: Path) -> None:
    """Replace the network list atomically, as containerd watches the directory."""
    _replace_file(directory / "10-pod-network.conflist", orjson.dumps(conflist, option=orjson.OPT_INDENT_2))


def build_hosts_toml(server: str, plain_http: bool, mirror: str = "") -> str:
    """containerd's hosts.toml for one registry host: pull from `server` (host[:port] or URL). mirror: URL that is asked
    for content first, and never for what a name stands for."""
    url = server if "://" in server else f"{'http' if plain_http else 'https'}://{server}"
    if any(character in url for character in '"\\\n'):
        raise NetworkError(f"not a registry URL: {url!r}")
    return f'server = "{url}"\n\n{_mirror_host(mirror)}[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'


def _mirror_host(url: str) -> str:
    return f'[host."{url}"]\n  capabilities = ["pull"]\n\n' if url else ""


def write_registry_hosts(registries: Mapping[str, Mapping[str, Any]], directory: Path, mirror: str = "") -> None:
    """Write certs.d/<host>/hosts.toml for each registry of the boot data; raises NetworkError for a bad name. With a
    mirror, all others (`_default`) have it before the registry itself, which is found as without a file."""
    for host, registry in registries.items():
        if not _REGISTRY_HOST.fullmatch(host):
            raise NetworkError(f"not a registry host: {host!r}")
        content = build_hosts_toml(registry.get("server") or host, bool(registry.get("plain_http")), mirror)
        _replace_file(directory / host / "hosts.toml", content.encode())
    if "_default" not in registries:
        _write_default_hosts(directory / "_default" / "hosts.toml", mirror)


def _write_default_hosts(path: Path, mirror: str) -> None:
    """A file that is not of an earlier start is the machine's, and stays as it is."""
    with contextlib.suppress(OSError):
        if not path.read_text().startswith(_OURS):
            return
        if not mirror:
            path.unlink()
    if mirror:
        _replace_file(path, f"{_OURS}{_mirror_host(mirror)}".encode())


def find_mtu(mac: str, sys_class_net: Path = Path("/sys/class/net")) -> int:
    """MTU of the interface with this hardware address; 0 when there is none."""
    for interface in sorted(sys_class_net.iterdir()):
        with contextlib.suppress(OSError, ValueError):
            if (interface / "address").read_text().strip().lower() == mac.lower():
                return int((interface / "mtu").read_text())
    return 0


def configure(
    facts: InstanceFacts,
    mac: str,
    subnet_cidr: str,
    registries: Mapping[str, Mapping[str, Any]],
    paths: NetworkPaths,
    subnet_ipv6_cidr: str = "",
    mirror: str = "",
) -> None:
    """Write the CNI network list and the registry hosts of this instance. mirror: see build_hosts_toml."""
    write_registry_hosts(registries, paths.certs_dir, mirror)
    ipv6 = (facts.primary_ipv6, facts.pod_ipv6, subnet_ipv6_cidr) if facts.pod_ipv6 else None
    conflist = build_cni_conflist(facts.primary_ip, facts.pod_ip, subnet_cidr, paths.ipam_dir, find_mtu(mac), ipv6)
    write_cni_conflist(conflist, paths.cni_conf_dir)


def _replace_file(path: Path, content: bytes) -> None:
    """Only when it is to change: an agent must be able to start again on a disk that is full."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)
