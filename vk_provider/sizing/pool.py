"""Pools of instances that are kept ready: how many, of which offerings, and which pods may have one (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vk_provider.cloud.base import Offering, OfferingKey, offering_key
from vk_provider.sizing.disks import plan_disks
from vk_provider.sizing.need import format_cpu, format_memory
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import MAX_ALTERNATIVES, Refusal, Selection, format_price

MINUTES_A_DAY = 24 * 60
_EPOCH_DAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


@dataclass(frozen=True, slots=True)
class Window:
    """Another size at certain hours of certain days, in UTC.

    days:         of its beginning, Monday is 0; empty: every day
    start_minute: of the day; end_minute: exclusive, at most a day later (more than a day's minutes: on the next day)
    """

    count: int
    days: frozenset[int]
    start_minute: int
    end_minute: int

    def covers(self, minute_of_week: int) -> bool:
        return any(
            0
            <= (minute_of_week - day * MINUTES_A_DAY - self.start_minute) % (7 * MINUTES_A_DAY)
            < self.end_minute - self.start_minute
            for day in self.days or range(7)
        )


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool.

    instance_type: pattern as of fnmatch; "" for the cheapest with room for a pod of cpu_milli and memory_bytes
    zone:          "" for those of the Node
    count:         how many are ready where no window says else; the largest of the windows in force
    max_count:     up to which the size follows what pods have asked for lately
    price_factor:  a pod gets one only where it costs at most so many times what an instance of its own choice does
    is_stopped:    they are stopped until a pod takes them
    """

    name: str
    node: str
    instance_type: str = ""
    cpu_milli: int = 0
    memory_bytes: int = 0
    zone: str = ""
    capacity_type: str = "on-demand"
    disk_bytes: int = 20 * 2**30
    count: int = 0
    max_count: int = 0
    price_factor: float = 2.0
    windows: tuple[Window, ...] = ()
    is_stopped: bool = False


def compute_count(spec: PoolSpec, now_s: float, asked: int = 0) -> int:
    """The size now. now_s: Unix seconds; asked: how many pods have asked for one lately."""
    minute = _minute_of_week(now_s)
    counts = [window.count for window in spec.windows if window.covers(minute)]
    count = max(counts) if counts else spec.count
    return max(count, min(asked, spec.max_count))


def next_change_s(spec: PoolSpec, now_s: float) -> float | None:
    """Seconds until a window begins or ends; None without windows."""
    minute = _minute_of_week(now_s)
    edges = [
        (day * MINUTES_A_DAY + edge - minute - 1) % (7 * MINUTES_A_DAY) + 1
        for window in spec.windows
        for day in window.days or range(7)
        for edge in (window.start_minute, window.end_minute)
    ]
    return min(edges) * 60.0 - now_s % 60.0 if edges else None


def _minute_of_week(now_s: float) -> int:
    days, seconds = divmod(int(now_s), 86400)
    return (days + _EPOCH_DAY) % 7 * MINUTES_A_DAY + seconds // 60


def select_for_pool(
    spec: PoolSpec,
    offerings: Iterable[Offering],
    preferences: Preferences,
    unavailable: frozenset[OfferingKey] = frozenset(),
) -> Selection | Refusal:
    """The cheapest offering that the pool may be of, with alternatives."""
    allowed = [each for each in offerings if _is_allowed(spec, each, preferences)]
    if not allowed:
        return Refusal("NoFittingInstance", f"pool {spec.name}: no offering is {_describe(spec)}", "pool")
    disks = plan_disks(spec.disk_bytes, preferences.base_disk_bytes)
    left = sorted(
        (each for each in allowed if offering_key(each) not in unavailable),
        key=lambda each: (
            each.price_per_hour + disks.compute_price(each),
            each.cpu_milli,
            each.memory_bytes,
            *offering_key(each),
        ),
    )
    if not left:
        text = f"pool {spec.name}: the cloud has no capacity for any of its {len(allowed)} offerings now"
        return Refusal("InsufficientInstanceCapacity", text, "availability", retryable=True)
    asked = hashlib.sha256(repr((spec.disk_bytes, _wanted(spec), preferences)).encode()).hexdigest()
    ranked = left[: 1 + MAX_ALTERNATIVES]
    store = disks.store_among(ranked)
    text = f"pool {spec.name}"
    return Selection(ranked[0], tuple(ranked[1:]), spec.disk_bytes, text, asked, local_store=store)


def explain_from_pool(name: str, offering: Offering, cpu_milli: int, *, is_started: bool = False) -> str:
    """For an event and a condition. cpu_milli: that the pod is expected to use all the time; is_started: it was
    stopped."""
    return (
        f"{'Started' if is_started else 'Took'} one from the pool {name}: "
        f"{offering.instance_type} ({format_cpu(offering.cpu_milli)} CPU, "
        f"{format_memory(offering.memory_bytes)}) {offering.capacity_type} in {offering.zone} at "
        f"{format_price(offering, cpu_milli)}"
    )


def _wanted(spec: PoolSpec) -> Sequence[object]:
    """What an instance must be: a change of it makes others of them. The counts do not."""
    wanted = spec.instance_type, spec.cpu_milli, spec.memory_bytes, spec.zone, spec.capacity_type
    return (*wanted, "stopped") if spec.is_stopped else wanted


def _is_allowed(spec: PoolSpec, offering: Offering, preferences: Preferences) -> bool:
    cpu, memory = spec.cpu_milli, spec.memory_bytes
    return (
        (not spec.instance_type or fnmatchcase(offering.instance_type, spec.instance_type))
        and (not cpu or offering.cpu_milli >= cpu + preferences.reserved_cpu_milli)
        and (not memory or offering.memory_bytes >= memory + preferences.reserved_memory_bytes)
        and offering.capacity_type == spec.capacity_type
        and offering.zone == (spec.zone or offering.zone)
        and (not preferences.zones or offering.zone in preferences.zones)
        and (not preferences.architectures or offering.architecture in preferences.architectures)
        and (bool(spec.instance_type) or not offering.gpus)
    )


def _describe(spec: PoolSpec) -> str:
    words = [spec.capacity_type]
    if spec.instance_type:
        words.append(f"of type {spec.instance_type}")
    if spec.cpu_milli or spec.memory_bytes:
        words.append(f"with room for {format_cpu(spec.cpu_milli)} CPU and {format_memory(spec.memory_bytes)}")
    words.append(f"in {spec.zone}" if spec.zone else "in the Node's zone")
    return " ".join(words)
