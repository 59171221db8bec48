"""What the cloud was short of lately, so that the next launch asks for something else: by offering, type, zone,
capacity type or family, as its answer said. Pure but for the clock, which is an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vk_provider.cloud.base import Offering, OfferingKey, offering_key
from vk_provider.cloud.codes import family_of
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError

CAPACITY_TTL_S = 180.0
QUOTA_TTL_S = 60.0
_MAX_COVERED = 4096


@dataclass(frozen=True, slots=True)
class Shortage:
    """ "" matches all."""

    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""
    family: str = ""

    def covers(self, offering: Offering) -> bool:
        return (
            self.instance_type in ("", offering.instance_type)
            and self.zone in ("", offering.zone)
            and self.capacity_type in ("", offering.capacity_type)
            and self.family in ("", family_of(offering))
        )


class Shortages:
    """`clock`: monotonic seconds. offerings: all of the cloud."""

    def __init__(self, offerings: Sequence[Offering], clock: Callable[[], float]) -> None:
        self._offerings = offerings
        self._clock = clock
        self._until: dict[Shortage, float] = {}
        self._covered: dict[Shortage, frozenset[OfferingKey]] = {}
        self._unavailable: frozenset[OfferingKey] = frozenset()
        self._valid_until = 0.0

    def replace_offerings(self, offerings: Sequence[Offering]) -> None:
        """The cloud offers others; what is short stays so."""
        self._offerings = offerings
        self._covered.clear()
        self._valid_until = 0.0

    def mark(self, offering: Offering, error: CloudError) -> None:
        """Remember what a launch of this offering met, if it was a shortage."""
        if isinstance(error, CloudQuotaError):
            if not error.family:
                return  # all are full: nothing else can be tried
            shortage, ttl_s = Shortage(family=error.family), QUOTA_TTL_S
        elif isinstance(error, CapacityError):
            named = (error.instance_type, error.zone, error.capacity_type)
            shortage = Shortage(*named) if any(named) else Shortage(*offering_key(offering))
            ttl_s = CAPACITY_TTL_S
        else:
            return
        self._until[shortage] = self._clock() + ttl_s
        self._valid_until = 0.0

    def unavailable(self) -> frozenset[OfferingKey]:
        """The offerings that are not worth a try now: the same object while nothing has changed."""
        now = self._clock()
        if now >= self._valid_until:
            self._until = {shortage: until for shortage, until in self._until.items() if until > now}
            self._valid_until = min(self._until.values(), default=float("inf"))
            found = frozenset[OfferingKey]().union(*map(self._find_covered, self._until))
            if found != self._unavailable:
                self._unavailable = found
        return self._unavailable

    def _find_covered(self, shortage: Shortage) -> frozenset[OfferingKey]:
        """Looked up once: a large cloud has thousands of offerings, and many shortages at a time."""
        found = self._covered.get(shortage)
        if found is None:
            found = frozenset(offering_key(each) for each in self._offerings if shortage.covers(each))
            if len(self._covered) >= _MAX_COVERED:
                self._covered.clear()
            self._covered[shortage] = found
        return found

    def current(self) -> list[tuple[Shortage, float]]:
        """What is short, and for how many seconds more it is avoided."""
        now = self._clock()
        return [(shortage, until - now) for shortage, until in self._until.items() if until > now]
