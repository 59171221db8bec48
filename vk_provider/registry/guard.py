"""Keeps requests to registries away from this machine: their addresses come from pods and from registries.

Private networks are allowed, as registries stand there. Loopback and link-local addresses are not: what listens there
is for this machine alone, a metadata service among it, which EC2 has at a private address, too. Hosts that the settings
name are trusted.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

_LOCAL_SERVICES = ipaddress.ip_network("fd00:ec2::/32")
"""EC2's services of the instance by IPv6: metadata, DNS, time, credentials."""


def is_allowed(address: str) -> bool:
    """Whether a registry may be at this address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed in _LOCAL_SERVICES:
        return False
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)


def check_literal(host: str) -> bool | None:
    """Whether a registry may be at this host, if it is an address, which no resolver sees; None for a name.

    What aiohttp takes for an address (helpers.is_ip_address) it connects to as it is, and the C library reads "127.1"
    and "2130706433" as addresses, too: nothing but the usual form is allowed.
    """
    if ":" not in host and not host.replace(".", "").isdigit():
        return None
    try:
        return is_allowed(host)
    except ValueError:
        return False


class GuardedResolver(AbstractResolver):
    """Finds allowed addresses only; any for the trusted host names."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._trusted = frozenset(trusted)
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host not in self._trusted:
            found = [each for each in found if is_allowed(each["host"])]
        if not found:
            raise OSError(f"{host} has no address where a registry may be")
        return found

    async def close(self) -> None:
        await self._inner.close()
