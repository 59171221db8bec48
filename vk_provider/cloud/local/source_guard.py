"""What an instance may send: from its own MAC address and its own addresses, and nothing else.

A table of ours in the bridge's namespace, which goes with it; the host's own rules are not touched. It drops what does
not fit before the bridge learns a MAC address from it (br_handle_frame_finish comes after the hook), ARP included.
Which addresses belong to a port follows from the port's name, so entries never become wrong and are never removed.
"""

from __future__ import annotations

import ipaddress
import threading

from vk_provider.cloud.local.boot import mac_address, port_name
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.ipv6 import link_local, translate
from vk_provider.cloud.local.neighbour_guard import SOURCES, Ipv6Port, build_ipv6_elements, build_ipv6_table
from vk_provider.cloud.local.network import HOST_PORT
from vk_provider.cloud.local.store import FIRST_ADDRESS_OFFSET
from vk_provider.errors import BadStartError, CloudError

_TABLE = "vk-sources"
_PAIRS_AT_ONCE = 128
"""nft takes 6 ms for one address pair and 10 for 128: neighbours of a new instance's addresses are admitted with it."""


def build_table(older_ports: list[str]) -> str:
    """`nft -f` input that makes the table. `older_ports`: made before there was one, let through."""
    older = "".join(f'    iifname "{port}" accept\n' for port in older_ports)
    return f"""table bridge {_TABLE} {{
  set sources {{
    type ifname . ether_addr . ipv4_addr
  }}
  set announcers {{
    type ifname . ether_addr . ether_addr . ipv4_addr
  }}
  chain ingress {{
    type filter hook prerouting priority -350; policy drop;
    iifname "{HOST_PORT}" accept
{older}    ether type ip iifname . ether saddr . ip saddr @sources accept
    ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 \\
      iifname . ether saddr . arp saddr ether . arp saddr ip @announcers accept
  }}
}}
"""


def build_elements(pairs: list[str]) -> str:
    """`nft -f` input that admits the instances with these primary addresses; the pod address is the next one."""
    sources, announcers = [], []
    for primary in pairs:
        mac = mac_address(primary)
        for address in (primary, str(ipaddress.IPv4Address(primary) + 1)):
            sources.append(f"{port_name(primary)} . {mac} . {address}")
            announcers.append(f"{port_name(primary)} . {mac} . {mac} . {address}")
    return (
        f"add element bridge {_TABLE} sources {{ {', '.join(sources)} }}\n"
        f"add element bridge {_TABLE} announcers {{ {', '.join(announcers)} }}\n"
    )


class SourceGuard:
    """The table of one cloud. Methods are blocking and may be called in threads."""

    def __init__(self, config: LocalCloudConfig) -> None:
        self._config = config
        self._admitted: set[int] = set()
        self._lock = threading.Lock()

    def ensure(self) -> None:
        """Make the table if it is not there. Raises BadStartError."""
        try:
            if _TABLE not in self._nft(["list", "tables", "bridge"]):
                self._nft(["-f", "-"], build_table(self._instance_ports()))
            if self._config.ipv6_subnet and SOURCES not in self._nft(["-t", "list", "table", "bridge", _TABLE]):
                self._nft(["-f", "-"], build_ipv6_table(_TABLE))
        except CommandError as error:
            raise BadStartError(f"local cloud: cannot guard the bridge's ports: {error}") from None

    def admit(self, primary_ip: str) -> None:
        """Let the instance with this address send. Raises CloudError."""
        first = int(self._config.network.network_address) + FIRST_ADDRESS_OFFSET
        group = (int(ipaddress.IPv4Address(primary_ip)) - first) // 2 // _PAIRS_AT_ONCE
        with self._lock:
            if group in self._admitted:
                return
            start = first + 2 * group * _PAIRS_AT_ONCE
            last = int(self._config.network.broadcast_address) - 2
            pairs = [str(ipaddress.IPv4Address(n)) for n in range(start, min(start + 2 * _PAIRS_AT_ONCE, last + 1), 2)]
            text = build_elements(pairs)
            if self._config.ipv6_subnet:
                text += build_ipv6_elements(_TABLE, map(self._ipv6_port, pairs))
            try:
                self._nft(["-f", "-"], text)
            except CommandError as error:
                raise CloudError(f"local cloud: cannot admit {primary_ip} to the bridge: {error}") from None
            self._admitted.add(group)

    def _ipv6_port(self, primary: str) -> Ipv6Port:
        subnet, ipv6_subnet = self._config.subnet, self._config.ipv6_subnet
        pair = (primary, str(ipaddress.IPv4Address(primary) + 1))
        addresses = (*(translate(subnet, ipv6_subnet, each) for each in pair), link_local(subnet, primary))
        return Ipv6Port(port_name(primary), mac_address(primary), addresses)

    def _nft(self, arguments: list[str], text: str | None = None) -> str:
        return run_command(["nsenter", f"--net={self._config.namespace_path}", "nft", *arguments], text=text)

    def _instance_ports(self) -> list[str]:
        lines = run_command(["ip", "-n", self._config.namespace, "-br", "link", "show", "type", "veth"]).splitlines()
        return [name for line in lines if (name := line.split("@")[0]) != HOST_PORT]
