"""Sets of protocols and ports, as rules allow them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

MAX_PORT = 65535


class PortRange(NamedTuple):
    """Ports `first` to `last` of an IP protocol number; protocol 0 is any protocol, with ports or without."""

    protocol: int
    first: int
    last: int


Ports = tuple[PortRange, ...]
"""Sorted, without overlaps: what is equal has one form."""
ALL_PORTS: Ports = (PortRange(0, 0, MAX_PORT),)


class NamedPort(NamedTuple):
    """A port that a container has named."""

    name: str
    protocol: int
    number: int


class PortMatch(NamedTuple):
    """An entry of a rule's `ports`. name: of the pod's port; "" when `first` and `last` say it."""

    protocol: int
    name: str
    first: int
    last: int


def merge_ports(parts: Iterable[PortRange]) -> Ports:
    found = sorted(set(parts))
    if found and found[0].protocol == 0:
        return ALL_PORTS
    merged: list[PortRange] = []
    for part in found:
        last = merged[-1] if merged else None
        if last is not None and last.protocol == part.protocol and part.first <= last.last + 1:
            merged[-1] = last._replace(last=max(last.last, part.last))
        else:
            merged.append(part)
    return tuple(merged)


def resolve_ports(wanted: tuple[PortMatch, ...] | None, named: Iterable[NamedPort]) -> Ports:
    """The ports that a rule allows on a pod with these named ports; None: all of them, of every protocol."""
    if wanted is None:
        return ALL_PORTS
    numbers: dict[tuple[str, int], int] = {}
    for port in named:
        numbers.setdefault((port.name, port.protocol), port.number)
    found: list[PortRange] = []
    for match in wanted:
        if not match.name:
            found.append(PortRange(match.protocol, match.first, match.last))
        elif (number := numbers.get((match.name, match.protocol))) is not None:
            found.append(PortRange(match.protocol, number, number))
    return merge_ports(found)


@lru_cache(maxsize=4096)
def name_ports(ports: Ports) -> str:
    """Of the set and the chain for these ports: the content decides, so what is left over is never wrong."""
    text = " ".join(f"{part.protocol}:{part.first}-{part.last}" for part in ports)
    return f"ports-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
