"""Offerings as sets of bits, so that a filter is one AND over thousands of them.

Bit i of a set is the offering of rank i: the lowest bits are the best ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from vk_provider.cloud.base import Offering, OfferingKey, offering_key
from vk_provider.sizing.requirement import CAPACITY_TYPE, LABELS, Expression, offering_label

Bits = int
SPOT = "spot"
_MAX_EXPRESSIONS = 4096
_PIECE_BITS = 30
_PIECE = (1 << _PIECE_BITS) - 1


def rank_key(offering: Offering, price: float) -> tuple[object, ...]:
    """Sort key: the current generation, then the cheapest, then a virtual machine, then the smallest; names last, so
    that the order of a catalog decides nothing."""
    traits = offering.traits
    return (
        not traits.is_current,
        price,
        traits.is_metal,
        offering.cpu_milli,
        offering.memory_bytes,
        *offering_key(offering),
    )


class Thresholds:
    """At least so much of something: values in order, each with the offerings that have it or more."""

    def __init__(self, offerings: Sequence[Offering], amount: Callable[[Offering], int]) -> None:
        groups: dict[int, list[int]] = {}
        for place, offering in enumerate(offerings):
            groups.setdefault(amount(offering), []).append(place)
        self._values = sorted(groups)
        self._sets: list[Bits] = []
        found = 0
        for value in reversed(self._values):
            found |= to_bits(groups[value], len(offerings))
            self._sets.append(found)
        self._sets.reverse()

    def at_least(self, amount: int) -> Bits:
        place = bisect_left(self._values, amount)
        return self._sets[place] if place < len(self._sets) else 0


class OfferingIndex:
    """A fixed list of offerings. everything: all bits; the other sets are for filters."""

    def __init__(self, offerings: Iterable[Offering]) -> None:
        self.offerings = ranked = sorted(offerings, key=lambda each: rank_key(each, each.price_per_hour))
        count = len(ranked)
        self.everything: Bits = (1 << count) - 1
        self._places = {offering_key(offering): place for place, offering in enumerate(ranked)}
        self._labels = {label: _group(ranked, label) for label in LABELS}
        self._expressions: dict[Expression, Bits] = {}
        self.cpu = Thresholds(ranked, lambda o: o.cpu_milli)
        self.memory = Thresholds(ranked, lambda o: o.usable_memory_bytes)
        self.gpus = Thresholds(ranked, lambda o: o.gpus)
        self.gpu_memory = Thresholds(ranked, lambda o: o.traits.gpu_memory_bytes)
        self.local_disk = Thresholds(ranked, lambda o: o.traits.local_disk_bytes)
        self.store = Thresholds(ranked, lambda o: o.traits.store_bytes)
        self.volume_rate = Thresholds(ranked, lambda o: o.traits.volume_bytes_per_s)
        self.metal = self.where(lambda o: o.traits.is_metal)
        self.spot = self._labels[CAPACITY_TYPE].get(SPOT, 0)
        self.bursting = self.where(lambda o: bool(o.traits.burst_price_per_cpu))
        self._unavailable: tuple[frozenset[OfferingKey], Bits] = (frozenset(), 0)

    def where(self, keeps: Callable[[Offering], bool]) -> Bits:
        """One by one: for what no filter of every pod asks."""
        return to_bits((place for place, each in enumerate(self.offerings) if keeps(each)), len(self.offerings))

    def values(self, label: str, among: Bits) -> list[str]:
        """The label's values of some offerings, in order."""
        return sorted(value for value, bits in self._labels[label].items() if bits & among)

    def matching(self, expression: Expression) -> Bits:
        """Those that a requirement on a label lets pass."""
        found = self._expressions.get(expression)
        if found is None:
            found = 0
            for value, bits in self._labels[expression.label].items():
                if expression.matches(value):
                    found |= bits
            if len(self._expressions) >= _MAX_EXPRESSIONS:
                self._expressions.clear()
            self._expressions[expression] = found
        return found

    def named(self, keys: frozenset[OfferingKey]) -> Bits:
        """The offerings of some keys; remembered for the last ones, which are the same for many pods."""
        if self._unavailable[0] is not keys:
            places = (place for key in keys if (place := self._places.get(key)) is not None)
            self._unavailable = keys, to_bits(places, len(self.offerings))
        return self._unavailable[1]

    def find(self, key: OfferingKey) -> Bits:
        """One offering; none when it is not there."""
        place = self._places.get(key)
        return 0 if place is None else 1 << place

    def iterate(self, bits: Bits) -> Iterator[Offering]:
        """The best first."""
        base = 0
        while bits:
            skipped = (bits & -bits).bit_length() - 1
            bits >>= skipped
            base += skipped
            piece = bits & _PIECE  # small numbers are cheap to take bits from
            while piece:
                lowest = piece & -piece
                yield self.offerings[base + lowest.bit_length() - 1]
                piece ^= lowest
            bits >>= _PIECE_BITS
            base += _PIECE_BITS

    def first(self, bits: Bits, count: int) -> list[Offering]:
        return list(islice(self.iterate(bits), count))

    def largest(self, bits: Bits, amount: Callable[[Offering], int]) -> int:
        return max(map(amount, self.iterate(bits)), default=0)


def to_bits(places: Iterable[int], count: int) -> Bits:
    """The set of some places below `count`."""
    found = bytearray(count // 8 + 1)
    for place in places:
        found[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(found, "little")


def _group(offerings: Sequence[Offering], label: str) -> dict[str, Bits]:
    groups: dict[str, list[int]] = {}
    for place, offering in enumerate(offerings):
        groups.setdefault(offering_label(offering, label), []).append(place)
    return {value: to_bits(places, len(offerings)) for value, places in groups.items()}
