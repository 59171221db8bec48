"""Which event is new, which one only counts up, and which is too much. Pure: time is an argument.

The three steps, their order, keys and figures are client-go's (tools/record/events_cache.go, EventCorrelate): a
combined event for more than ten similar ones within ten minutes, a count for equal ones, and a filter for each object
and type against floods, which counts what it holds back. What is remembered is kept for each object on its own, so
that the flood of one object displaces nothing of another's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.jsontypes import Json

Key = tuple[Any, ...]
ValueT = TypeVar("ValueT")

OBJECTS = 4096
"""Objects that are remembered; a kubelet remembers as many series of events."""
SERIES_PER_OBJECT = 128
"""More than the filter lets pass of one object within an hour."""
SIMILAR_LIMIT = 10
SIMILAR_WINDOW_S = 600.0
SPAM_BURST = 25
SPAM_RATE = 1 / 300
MAX_COUNT = 2**31 - 1
"""Event.count is an int32."""

_OBJECT_PARTS = ("kind", "namespace", "name", "uid", "apiVersion")


def object_key(event: Json) -> Key:
    """Who says it about whom: getSpamKey without the type."""
    involved, source = event["involvedObject"], event["source"]
    return (source["component"], source.get("host", ""), *(str(involved.get(part, "")) for part in _OBJECT_PARTS))


@dataclass(slots=True)
class EventSeries:
    """Equal events, or similar ones that are combined, are one object in the API server.

    name:            metadata.name of that Event, given before it is posted
    count:           occurrences so far, those that the filter held back included
    first_timestamp: RFC 3339
    stored:          the API server has it: the next one is a PATCH
    """

    name: str
    first_timestamp: str
    count: int = 0
    stored: bool = False


@dataclass(frozen=True, slots=True)
class CorrelatedEvent:
    """`event` as it is to be sent next: named, counted, perhaps combined. `object_key` and `key` tell its series."""

    object_key: Key
    key: Key
    event: Json
    series: EventSeries


@dataclass(slots=True)
class _Similar:
    messages: set[int] = field(default_factory=set)
    last_at: float = 0.0


@dataclass(slots=True)
class _ObjectMemory:
    """What is remembered of one object. Messages are held as their hashes: they are long, and not the object's own."""

    spam: dict[str, TokenBucket] = field(default_factory=dict)
    similar: OrderedDict[Key, _Similar] = field(default_factory=OrderedDict)
    series: OrderedDict[Key, EventSeries] = field(default_factory=OrderedDict)


class EventCorrelator:
    """Remembers the objects that had events last, and of each of them the newest events."""

    def __init__(self, objects: int = OBJECTS, series_per_object: int = SERIES_PER_OBJECT) -> None:
        self._limit, self._series_limit = objects, series_per_object
        self._objects: OrderedDict[Key, _ObjectMemory] = OrderedDict()

    def correlate(self, event: Json, now: float) -> CorrelatedEvent:
        """Combine and count one event. It is counted whatever becomes of it: see `allows`."""
        owner = object_key(event)
        memory = _recall(self._objects, owner, _ObjectMemory, self._limit)
        key, event = self._combine(memory, event, now)
        series = _recall(
            memory.series,
            key,
            lambda: EventSeries(event["metadata"]["name"], event["firstTimestamp"]),
            self._series_limit,
        )
        series.count = min(series.count + event["count"], MAX_COUNT)
        counted = {**event, "count": series.count, "firstTimestamp": series.first_timestamp}
        counted["metadata"] = {**event["metadata"], "name": series.name}
        return CorrelatedEvent(owner, key, counted, series)

    def allows(self, event: CorrelatedEvent, now: float) -> bool:
        """The filter: may one more request be made for events of this type about this object?"""
        memory = _recall(self._objects, event.object_key, _ObjectMemory, self._limit)
        event_type = event.event["type"]
        if event_type not in memory.spam:
            memory.spam[event_type] = TokenBucket(SPAM_RATE, SPAM_BURST, now)
        return memory.spam[event_type].try_take(now)

    def _combine(self, memory: _ObjectMemory, event: Json, now: float) -> tuple[Key, Json]:
        group = (event["type"], event["reason"])
        similar = _recall(memory.similar, group, _Similar, self._series_limit)
        if now - similar.last_at > SIMILAR_WINDOW_S:
            similar.messages.clear()
        message = hash(event["message"])
        similar.messages.add(message)
        similar.last_at = now
        if len(similar.messages) < SIMILAR_LIMIT:
            return (*group, event["involvedObject"].get("fieldPath", ""), message), event
        similar.messages.pop()
        return group, {**event, "message": f"(combined from similar events): {event['message']}"}


def _recall(cache: OrderedDict[Key, ValueT], key: Key, make: Callable[[], ValueT], limit: int) -> ValueT:
    """The value of `key`, made when it is new; what was not asked for the longest is forgotten."""
    value = cache.get(key)
    if value is None:
        value = cache[key] = make()
        if len(cache) > limit:
            cache.popitem(last=False)
    else:
        cache.move_to_end(key)
    return value
