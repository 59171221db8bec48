"""The cloud's network: a bridge in its own namespace and one veth pair to the host.

The host keeps its own rules: all it gets is one interface with the subnet's first address. Instances answer ARP for
their pod address (proxy_arp), so the bridge needs no routes.
"""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path

from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.errors import BadStartError

BRIDGE = "br0"
HOST_PORT = "host0"
"""The bridge's port to the host."""
METADATA_IP = "169.254.169.254"
BRIDGE_MAC = "02:56:a9:fe:a9:fe"
"""Fixed, because a bridge otherwise takes the lowest address of its ports: each new instance could change it, and the
others would send to the metadata service's old one until their neighbour entries expire."""


def find_collision(
    subnet: ipaddress.IPv4Network | ipaddress.IPv6Network, routes: list[dict[str, str]], own_device: str
) -> str | None:
    """Return a sentence about the route that overlaps `subnet`, None when there is none. `routes`: `ip -j route` of
    the subnet's family."""
    for route in routes:
        destination = str(route.get("dst", "default"))
        if (
            destination == "default"
            or route.get("dev") == own_device
            or route.get("type") in ("anycast", "broadcast", "multicast")
        ):
            continue
        try:
            network = ipaddress.ip_network(destination, strict=False)
        except ValueError:
            continue
        if network.version == subnet.version and network.overlaps(subnet):
            return f"subnet {subnet} collides with the route {destination} dev {route.get('dev', '?')}"
    return None


def exists(config: LocalCloudConfig) -> bool:
    """Whether namespace and host interface are there."""
    return os.path.exists(config.namespace_path) and Path("/sys/class/net", config.host_device).exists()


def ensure(config: LocalCloudConfig) -> None:
    """Make the network if it is not there (blocking, idempotent). Raises BadStartError with the reason."""
    try:
        _check_routes(config)
        found = _addresses(config) if exists(config) else set()
    except CommandError as error:  # what there is may serve instances that run
        raise BadStartError(f"local cloud: cannot look at this machine's network: {error}") from None
    if found:
        _check_addresses(config, found)
    else:
        try:
            remove(config)  # nothing, or what a process has left that was killed in the middle of it
            _create(config)
        except CommandError as error:
            remove(config)
            raise BadStartError(f"local cloud: cannot make the network: {error}") from None
    if config.ipv6_subnet:
        try:
            _ensure_ipv6(config)
        except (CommandError, OSError) as error:  # what there is serves instances that run
            raise BadStartError(f"local cloud: cannot have {config.ipv6_subnet} on this machine: {error}") from None


def _check_routes(config: LocalCloudConfig) -> None:
    networks: list[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]] = [("-4", config.network)]
    if config.ipv6_subnet:
        networks.append(("-6", ipaddress.IPv6Network(config.ipv6_subnet)))
    for family, network in networks:
        routes = json.loads(run_command(["ip", family, "-j", "route", "show", "table", "all"]) or "[]")
        if collision := find_collision(network, routes, config.host_device):
            raise BadStartError(f"local cloud: {collision}; choose another subnet")


def remove(config: LocalCloudConfig) -> None:
    """Remove namespace, bridge and host interface (blocking, idempotent)."""
    for argv in (["ip", "link", "del", config.host_device], ["ip", "netns", "del", config.namespace]):
        try:
            run_command(argv)
        except CommandError:
            pass  # was not there


def _addresses(config: LocalCloudConfig) -> set[str]:
    text = run_command(["ip", "-4", "-j", "addr", "show", "dev", config.host_device])
    return {f"{a['local']}/{a['prefixlen']}" for link in json.loads(text) for a in link.get("addr_info", [])}


def _check_addresses(config: LocalCloudConfig, found: set[str]) -> None:
    wanted = f"{config.host_ip}/{config.network.prefixlen}"
    if wanted not in found:
        raise BadStartError(_other_subnet(config, found, wanted))


def _other_subnet(config: LocalCloudConfig, found: set[str], wanted: str) -> str:
    return (
        f"local cloud: {config.host_device} has {', '.join(sorted(found))}, not {wanted}: this cloud was made "
        f"with another subnet; run `vk-provider local-cloud down --name {config.name}` first"
    )


def _create(config: LocalCloudConfig) -> None:
    """The host's address comes last: where it is, all the rest is."""
    namespace, device = config.namespace, config.host_device
    run_command(["ip", "netns", "add", namespace])
    inside = (
        "link set lo up\n"
        f"link add {BRIDGE} address {BRIDGE_MAC} type bridge forward_delay 0\n"
        f"addr add {METADATA_IP}/32 dev {BRIDGE}\n"
        f"link set {BRIDGE} up\n"
        f"route add {config.subnet} dev {BRIDGE} src {METADATA_IP}\n"
    )
    run_command(["ip", "-n", namespace, "-batch", "-"], text=inside)
    run_command(["ip", "link", "add", device, "type", "veth", "peer", "name", HOST_PORT, "netns", namespace])
    run_command(["ip", "-n", namespace, "link", "set", HOST_PORT, "master", BRIDGE, "up"])
    run_command(["ip", "link", "set", device, "up"])
    run_command(["ip", "addr", "add", f"{config.host_ip}/{config.network.prefixlen}", "dev", device])


def _ensure_ipv6(config: LocalCloudConfig) -> None:
    """Give the host its IPv6 address on the bridge, also in a network that was made without. Raises CommandError."""
    device, network = config.host_device, ipaddress.IPv6Network(config.ipv6_subnet)
    settings = Path("/proc/sys/net/ipv6/conf", device)
    if not settings.exists():
        raise BadStartError("local cloud: ipv6_subnet is set and this machine's kernel has no IPv6")
    wanted = f"{config.host_ipv6}/{network.prefixlen}"
    links = json.loads(run_command(["ip", "-6", "-j", "addr", "show", "dev", device]) or "[]")
    known = [each for link in links for each in link.get("addr_info", []) if each.get("scope") == "global"]
    found = {f"{each['local']}/{each['prefixlen']}" for each in known}
    if wanted in found:
        return
    if found:
        raise BadStartError(_other_subnet(config, found, wanted))
    (settings / "disable_ipv6").write_text("0")  # a machine may have it off by default
    (settings / "accept_ra").write_text("0")
    # Nobody shall reach the bridge itself.
    run_command(["ip", "-n", config.namespace, "link", "set", BRIDGE, "addrgenmode", "none"])
    run_command(["ip", "-6", "-n", config.namespace, "addr", "flush", "dev", BRIDGE])
    run_command(["ip", "-6", "addr", "add", wanted, "dev", device, "nodad"])
