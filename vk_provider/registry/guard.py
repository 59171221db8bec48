"""Keeps requests to registries away from this machine: their addresses come from pods and from registries.

Private networks are allowed, as registries stand there. Loopback and link-local addresses are not: what listens there
is for this machine alone, a metadata service among it. Hosts that the settings name are trusted.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver


def is_allowed(address: str) -> bool:
    """Whether a registry may be at this address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)


def is_literal(host: str) -> bool:
    """Whether it is an address, which no resolver sees."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
