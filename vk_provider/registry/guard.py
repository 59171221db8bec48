"""Keeps requests to registries away from this machine: their addresses come from pods and from registries.

Private networks are allowed, as registries stand there. Loopback and link-local addresses are not: what listens there
is for this machine alone, a metadata service among it, which EC2 has at a private address, too. Hosts that the settings
name are trusted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

_LOCAL_SERVICES = ipaddress.ip_network("fd00:ec2::/32")
"""EC2's services of the instance by IPv6: metadata, DNS, time, credentials."""
KNOWN_THREADS, NEW_THREADS = 4, 8
"""They are started as they are needed."""
MAX_FOUND = 1000


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
    """Finds allowed addresses only; any for the trusted host names.

    Users name the hosts, and whoever answers for their domain may take as long as the C library waits for it. So names
    are looked up in threads of this room alone: those of the event loop are everybody's, the API server's name among
    them. Names that were found before do not wait for the others.
    """

    def __init__(self, trusted: Collection[str]) -> None:
        self._trusted = frozenset(trusted)
        self._found: OrderedDict[str, None] = OrderedDict()
        self._known, self._new = (
            ThreadPoolExecutor(count, f"names of {which} registries")
            for count, which in ((KNOWN_THREADS, "known"), (NEW_THREADS, "new"))
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        threads = self._known if host in self._trusted or host in self._found else self._new
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        try:
            answers = await asyncio.get_running_loop().run_in_executor(threads, look_up)
        except asyncio.CancelledError:
            self._found.pop(host, None)  # one that is given up is none of them any more
            raise
        self._found[host] = None
        self._found.move_to_end(host)
        if len(self._found) > MAX_FOUND:
            self._found.popitem(last=False)
        found = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in answers
            if kind in (socket.AF_INET, socket.AF_INET6) and isinstance(address[0], str)
        ]
        if host not in self._trusted:
            found = [each for each in found if is_allowed(each["host"])]
        if not found:
            raise OSError(f"{host} has no address where a registry may be")
        return found

    async def close(self) -> None:
        for threads in (self._known, self._new):
            threads.shutdown(wait=False, cancel_futures=True)
