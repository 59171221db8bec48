"""Draws what goes wrong, as settings say, and as tests set it by hand."""

from __future__ import annotations

import random
from collections import Counter
from fnmatch import fnmatchcase

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.cloud.base import Instance, Offering, OfferingKey, offering_key
from vk_provider.cloud.codes import build_error, family_of
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import CloudError

UNTERMINABLE_TRIES = 3


class Failures:
    """Set by tests. `throttled`: how many of the next calls are refused; `protected`: IDs of instances that cannot be
    terminated."""

    def __init__(self) -> None:
        self.throttled = 0
        self.no_capacity: set[OfferingKey] = set()
        self.protected: set[str] = set()

    def check_call(self, name: str) -> None:
        if self.throttled > 0:
            self.throttled -= 1
            raise build_error("RequestLimitExceeded", f"{name} is throttled")


class FaultDice:
    """One throw for each question, in the order of the questions. Times are Unix seconds of the cloud's clock."""

    def __init__(self, settings: SimulatedFaults, now: float) -> None:
        self.settings = settings
        self._random = random.Random(settings.seed)
        self._began = now
        self._calls: dict[str, TokenBucket] = {}
        self._resources: dict[str, TokenBucket] = {}
        self._tries: Counter[str] = Counter()
        self._unterminable: set[str] = set()

    def throttle_call(self, verb: str, now: float) -> CloudError | None:
        """The refusal of one call too many."""
        if not self.settings.call_burst:
            return None
        return _take(self._calls, verb, 1, (self.settings.call_rate, self.settings.call_burst), now)

    def throttle_resources(self, verb: str, count: int, now: float) -> CloudError | None:
        """The refusal of one instance too many. A call for more than the bucket can hold is measured by that."""
        burst = self.settings.resource_burst
        if not burst:
            return None
        return _take(self._resources, verb, min(count, burst), (self.settings.resource_rate, burst), now)

    def has_no_capacity(self, offering: Offering) -> bool:
        name = "/".join(offering_key(offering))
        return any(fnmatchcase(name, pattern) for pattern in self.settings.no_capacity)

    def loses_answer(self) -> bool:
        return self._happens(self.settings.lost_answers)

    def late_s(self) -> float:
        """Seconds that an answer is late; 0.0 for one in time."""
        return self.settings.late_s if self._happens(self.settings.late_answers) else 0.0

    def lag_s(self) -> float:
        """Seconds that listings lag behind for a change of one instance."""
        lag_s = self.settings.listing_lag_s
        return self._random.uniform(0.0, lag_s) if lag_s else 0.0

    def is_left_out(self) -> bool:
        """Of a listing, for one instance."""
        return self._happens(self.settings.missing_share)

    def boot_delay_s(self) -> float:
        """Seconds that the agent of a new instance needs beyond the ordinary; infinite for one that never answers."""
        if self._happens(self.settings.failed_boots):
            return float("inf")
        return self.settings.slow_boot_s if self._happens(self.settings.slow_boots) else 0.0

    def life_s(self, instance: Instance) -> float | None:
        """Seconds until a new instance is interrupted; None for never."""
        if not self.settings.kills_per_hour or instance.capacity_type != "spot":
            return None
        return self._random.expovariate(self.settings.kills_per_hour / 3600.0)

    def may_terminate(self, instance_id: str) -> bool:
        if not self.settings.unterminable:
            return True
        if instance_id not in self._tries and self._happens(self.settings.unterminable):
            self._unterminable.add(instance_id)
        self._tries[instance_id] += 1
        return instance_id not in self._unterminable or self._tries[instance_id] > UNTERMINABLE_TRIES

    def _happens(self, share: float) -> bool:
        return bool(share) and self._random.random() < share


class AccountLimits:
    """Counts live instances against the account's limits."""

    def __init__(self, settings: SimulatedFaults, max_instances: int) -> None:
        self._settings = settings
        self._max_instances = min(max_instances, settings.max_instances or max_instances)
        self._of_offering: Counter[OfferingKey] = Counter()
        self._milli_of_family: Counter[str] = Counter()
        self._count = 0

    def check(self, offering: Offering) -> None:
        """Raises the CloudQuotaError or CapacityError that one more instance meets."""
        settings = self._settings
        if self._count >= self._max_instances:
            raise build_error("InstanceLimitExceeded", f"at most {self._max_instances} instances", offering)
        family = family_of(offering)
        wanted = self._milli_of_family[family] + offering.cpu_milli
        if settings.max_vcpus and wanted > 1000 * settings.max_vcpus:
            raise build_error("VcpuLimitExceeded", f"at most {settings.max_vcpus} vCPUs of {family}", offering)
        if settings.capacity and self._of_offering[offering_key(offering)] >= settings.capacity:
            raise no_capacity(offering)

    def add(self, offering: Offering, sign: int = 1) -> None:
        """An instance came (1) or went (-1)."""
        self._count += sign
        if self._settings.capacity:
            self._of_offering[offering_key(offering)] += sign
        if self._settings.max_vcpus:
            self._milli_of_family[family_of(offering)] += sign * offering.cpu_milli


def no_capacity(offering: Offering) -> CloudError:
    text = f"no {offering.instance_type} ({offering.capacity_type}) in {offering.zone} now"
    return build_error("InsufficientInstanceCapacity", text, offering)


def _take(
    buckets: dict[str, TokenBucket], verb: str, amount: int, pace: tuple[float, int], now: float
) -> CloudError | None:
    rate, burst = pace
    bucket = buckets.setdefault(verb, TokenBucket(max(rate, 1e-9), burst, now))
    wait_s = bucket.take(now, amount)
    if not wait_s:
        return None
    bucket.take(now, -amount)  # what is refused costs nothing
    return build_error("RequestLimitExceeded", f"{verb} is throttled", retry_after_s=wait_s)
