"""Numbers for sessionAffinity: ClientIP. Pure.

nft 1.0.6 has no rule that writes the result of a lookup into a map, so rules pass it on in two fields of a connection's
first packet that nobody reads before they are cleared: the number of the Service port in the connection's mark, that of
the endpoint in the packet's priority (a traffic control class, two 16-bit halves). A client is remembered by a hash of
its address and the port's number: an IPv6 address and a number together do not fit into the registers that 1.0.6 gives
such a rule, and clients of equal hash only share an endpoint.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from vk_provider.serviceproxy.endpoint import Endpoint

TAG = 0x76000000
"""The upper byte of every number, so that the chain that clears them knows them."""
_SPACE = 1 << 24


class AffinityNumbers:
    """A number for each of the Service ports with affinity: a hash of its name, so that a restart changes nothing; the
    next free one if two names collide."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def claim(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = _first(name)
            while number in self._names:
                number = _next(number)
            self._numbers[name], self._names[number] = number, name
        return number

    def release(self, name: str) -> None:
        number = self._numbers.pop(name, None)
        if number is not None:
            del self._names[number]


def number_endpoints(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    """A number for each endpoint of one Service port, by its target; a number is unique within the port."""
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    for target in sorted({endpoint.target for endpoint in endpoints}):
        number = _first(target)
        while number in taken:
            number = _next(number)
        numbers[target] = number
        taken.add(number)
    return numbers


def write_class(number: int) -> str:
    """As nft writes a traffic control class."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def _first(name: str) -> int:
    return TAG | zlib.crc32(name.encode()) % _SPACE


def _next(number: int) -> int:
    return TAG | (number + 1) % _SPACE
