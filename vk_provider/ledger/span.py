"""A time in which one instance ran, or was stopped, for one owner at one price. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import attrgetter

from vk_provider.cloud.base import (
    TAG_IMAGE_SET,
    TAG_LABEL_PREFIX,
    TAG_POD_NAME,
    TAG_POD_NAMESPACE,
    TAG_POD_UID,
    Instance,
    InstanceState,
    OfferingKey,
)
from vk_provider.jsontypes import Json

NANOS = 1_000_000_000
"""Prices are whole nano-USD an hour, so that sums of what runs have no rounding left when it has ended."""
HOUR_S = 3600.0
MAX_LABELS = 64
PREPARED_IMAGES = "(prepared images)"
"""Namespace of what is paid for so that images are ready. No namespace of Kubernetes is named like it."""
SNAPSHOT = "snapshot"
"""Instance type of what is no instance: a store that is kept."""
_COSTING = (InstanceState.PENDING, InstanceState.RUNNING)


class SpanState(StrEnum):
    """RUNNING: it goes on, also where the instance is stopped meanwhile. UNSURE: it went on when an earlier process
    looked last, and was not seen since. STOPPED: it may run again. ENDED: a termination was accepted, or the cloud says
    so. MISSING: the cloud does not list it any more. PASSED_ON: another span goes on, for another owner, at another
    price, or after a stop or a start."""

    RUNNING = "running"
    UNSURE = "unsure"
    STOPPED = "stopped"
    ENDED = "ended"
    MISSING = "missing"
    PASSED_ON = "passed-on"


_GOES_ON = (SpanState.RUNNING, SpanState.UNSURE, SpanState.PASSED_ON)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an instance runs for. namespace: "" for a spare one that is nobody's yet, PREPARED_IMAGES where no pod ever
    has it; pod, pod_uid: "" while it has no pod; labels: the pod's, without a pod those that its launch has in common.
    """

    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunTerms:
    """How a cloud bills the time in which an instance runs.

    burst_price_of: (offering, millicores that are in use all the time) -> USD an hour that these cost above the price
                    of the offering; 0.0 for a type that is no burstable one
    least_run_s:    that are paid for of each run, from a launch or a start on
    """

    burst_price_of: Callable[[OfferingKey, int], float] = lambda key, cpu_milli: 0.0
    least_run_s: float = 0.0


PLAIN_TERMS = RunTerms()


@dataclass(slots=True, eq=False)
class Span:
    """since, until: Unix seconds; `until` is only true of a span that does not run
    price_nanos:  nano-USD an hour of the instance without its disks; None when no price is known
    burst_nanos:  the part of price_nanos that is for CPU above the baseline of a burstable type
    disk_nanos:   nano-USD an hour of its disks
    is_stopped:   the instance is stopped, or is none (SNAPSHOT): its disks alone are paid for
    is_estimated: its end is not known: it is the last moment of which it is known that the instance ran
    seen_at:      when something has shown last that the instance runs
    counted_from: what was before was counted by an earlier process
    is_late:      known only since its end: what the store has of it is better
    least_until:  until when its run is paid for, also when it ends before; 0.0 for no such time
    launched:     when the cloud launched the instance; 0.0 while that is not known
    priced_until: until when its price is the one that the cloud's history of spot prices says; 0.0 for not yet
    """

    instance_id: str
    since: float
    until: float
    state: SpanState
    node: str
    instance_type: str
    zone: str
    capacity_type: str
    price_nanos: int | None
    owner: Owner
    is_estimated: bool = False
    seen_at: float = 0.0
    counted_from: float = 0.0
    is_late: bool = False
    launched: float = 0.0
    priced_until: float = 0.0
    disk_nanos: int = 0
    is_stopped: bool = False
    burst_nanos: int = 0
    least_until: float = 0.0

    @property
    def key(self) -> tuple[str, float]:
        return self.instance_id, self.since

    @property
    def is_of_store(self) -> bool:
        """Whether it is of no instance, but of a store that is kept."""
        return self.instance_type == SNAPSHOT

    @property
    def rate_nanos(self) -> int:
        return (self.price_nanos or 0) + self.disk_nanos

    @property
    def paid_until(self) -> float:
        """Of one that does not run; the last span of a run has what is left of the least time."""
        return self.until if self.state in _GOES_ON else max(self.until, self.least_until)

    def set_burst(self, nanos: int) -> None:
        """Its price is for another use of CPU."""
        if self.price_nanos is not None:
            self.price_nanos += nanos - self.burst_nanos
            self.burst_nanos = nanos

    @property
    def counter_key(self) -> tuple[str, str]:
        """(namespace, capacity type)."""
        return self.owner.namespace, self.capacity_type

    def copy(self) -> Span:
        """As it is now. dataclasses.replace takes five times as long, and a burst changes thousands."""
        return Span(*_values(self))

    def continue_for(self, owner: Owner, since: float) -> Span:
        """The next span of the instance, which runs."""
        return replace(
            self,
            since=since,
            until=since,
            state=SpanState.RUNNING,
            owner=owner,
            is_estimated=False,
            seen_at=0.0,
            counted_from=0.0,
            is_late=False,
        )

    def counted_s(self, now: float) -> float:
        """Seconds since counted_from that are paid for."""
        until = now if self.state is SpanState.RUNNING else self.paid_until
        return max(0.0, until - max(self.since, self.counted_from))


_values = attrgetter(*(each.name for each in fields(Span)))


def is_costing(instance: Instance) -> bool:
    return instance.state in _COSTING


def to_nanos(price_per_hour: float | None) -> int | None:
    return None if price_per_hour is None else round(price_per_hour * NANOS)


def owner_of_store(key: str) -> Owner:
    """Of a store of this image set, and of what makes it: its pod is the set."""
    return Owner(PREPARED_IMAGES, key)


def owner_of_tags(instance: Instance) -> Owner:
    tags = instance.tags
    if TAG_IMAGE_SET in tags:
        return owner_of_store(tags[TAG_IMAGE_SET])
    labels = {
        key.removeprefix(TAG_LABEL_PREFIX): value for key, value in tags.items() if key.startswith(TAG_LABEL_PREFIX)
    }
    return Owner(tags.get(TAG_POD_NAMESPACE, ""), tags.get(TAG_POD_NAME, ""), tags.get(TAG_POD_UID, ""), labels)


def owner_of_pod(pod: Json) -> Owner:
    metadata = pod["metadata"]
    labels = dict(sorted((metadata.get("labels") or {}).items())[:MAX_LABELS])
    return Owner(metadata["namespace"], metadata["name"], metadata["uid"], labels)
