"""Caches which offerings had no capacity recently, so that the next pod tries another one first."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.cloud.base import Offering
from vk_provider.errors import CapacityError

OfferingKey = tuple[str, str, str]
"""(instance type, zone, capacity type)."""

DEFAULT_TTL_S = 180.0


def offering_key(offering: Offering) -> OfferingKey:
    return offering.instance_type, offering.zone, offering.capacity_type


class UnavailableOfferings:
    """A set of offerings that forgets each after `ttl_s`. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], ttl_s: float = DEFAULT_TTL_S) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._until: dict[OfferingKey, float] = {}

    def mark(self, offering: Offering) -> None:
        self._until[offering_key(offering)] = self._clock() + self._ttl_s

    def mark_error(self, error: CapacityError, offering: Offering) -> None:
        """Mark the offering that the error names, or else the requested one."""
        key = (
            error.instance_type or offering.instance_type,
            error.zone or offering.zone,
            error.capacity_type or offering.capacity_type,
        )
        self._until[key] = self._clock() + self._ttl_s

    def keys(self) -> frozenset[OfferingKey]:
        """The offerings that are unavailable now."""
        now = self._clock()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return frozenset(self._until)

    def __contains__(self, offering: Offering) -> bool:
        return self._until.get(offering_key(offering), 0.0) > self._clock()
