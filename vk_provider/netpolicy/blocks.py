"""Ranges of addresses: ipBlock with except, and which rules cover which addresses. Pure.

Addresses are numbers, ranges include both ends.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.address import Family, Network, parse_network

Range = tuple[int, int]
BITS = {Family.IPV4: 32, Family.IPV6: 128}
EVERYWHERE: dict[Family, tuple[Range, ...]] = {family: ((0, (1 << bits) - 1),) for family, bits in BITS.items()}


def parse_block(block: Json) -> tuple[Family, tuple[Range, ...]] | None:
    """The addresses of an ipBlock without those of its `except`; None when it cannot be read.

    An `except` that cannot be read makes the block unreadable: it must not let in what it was to keep out.
    """
    network = parse_network(block.get("cidr"))
    excluded = [parse_network(item) for item in block.get("except") or []]
    if network is None:
        return None
    holes: list[Range] = []
    for item in excluded:
        if item is None:
            return None
        if item.version == network.version:
            holes.append(_range_of(item))
    return Family(network.version), _subtract(_range_of(network), holes)


def _range_of(network: Network) -> Range:
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def _subtract(whole: Range, holes: Iterable[Range]) -> tuple[Range, ...]:
    left, position = [], whole[0]
    for first, last in sorted(holes):
        if first > position:
            left.append((position, min(first - 1, whole[1])))
        position = max(position, last + 1)
        if position > whole[1]:
            break
    else:
        left.append((position, whole[1]))
    return tuple(item for item in left if item[0] <= item[1])


def merge_ranges(ranges: Iterable[Range]) -> tuple[Range, ...]:
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


class TooLargeError(ValueError):
    """Ranges that overlap in more ways than can be told apart."""


class Cover:
    """Which of several sets of ranges cover an address.

    ranges:  by number; each sorted and without overlaps
    weights: by number, what it costs to be there
    limit:   of the sum of all weights at all places where something changes; beyond it TooLargeError
    """

    def __init__(self, ranges: Mapping[int, Sequence[Range]], weights: Sequence[int], limit: int) -> None:
        edges: dict[int, list[tuple[bool, int]]] = {}
        for number, items in ranges.items():
            for first, last in items:
                edges.setdefault(first, []).append((True, number))
                edges.setdefault(last + 1, []).append((False, number))
        self._starts: list[int] = []
        self._covering: list[frozenset[int]] = []
        now: set[int] = set()
        for place in sorted(edges):
            ended = {number for begins, number in edges[place] if not begins}
            now = (now - ended) | {number for begins, number in edges[place] if begins}
            limit -= sum(weights[number] for number in now)
            if limit < 0:
                raise TooLargeError
            self._starts.append(place)
            self._covering.append(frozenset(now))

    def at(self, address: int) -> frozenset[int]:
        place = bisect_right(self._starts, address)
        return self._covering[place - 1] if place else frozenset()

    def ranges(self) -> Iterable[tuple[Range, frozenset[int]]]:
        """Ranges that something covers, in order."""
        for place, (start, covering) in enumerate(zip(self._starts, self._covering, strict=True)):
            if covering:
                yield (start, self._starts[place + 1] - 1), covering


def write_range(family: Family, span: Range) -> str:
    """As nft lists it: an address, a network or a range."""
    kind = ipaddress.IPv4Address if family is Family.IPV4 else ipaddress.IPv6Address
    first, last = span
    size = last - first + 1
    if size == 1:
        return str(kind(first))
    if size & (size - 1) == 0 and first % size == 0:
        return f"{kind(first)}/{BITS[family] - size.bit_length() + 1}"
    return f"{kind(first)}-{kind(last)}"
