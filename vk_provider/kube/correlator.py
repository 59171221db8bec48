"""Decides which event is created, which one is counted, and which is dropped as spam. Pure: time is an argument.

The three steps, their order, keys and figures are client-go's (tools/record/events_cache.go, EventCorrelate): a
combined event for more than ten similar ones within ten minutes, a count for equal ones, and a spam filter for each
object and type, which counts what it drops. The state is kept per object, so that many events of one object evict
nothing of another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import orjson

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.jsontypes import Json, to_text

Key = tuple[Any, ...]
ValueT = TypeVar("ValueT")

OBJECTS = 4096
"""Objects in the cache; a kubelet caches as many series of events."""
SERIES_PER_OBJECT = 128
"""More than the filter lets pass of one object within an hour."""
SIMILAR_LIMIT = 10
SIMILAR_WINDOW_S = 600.0
SPAM_BURST = 25
SPAM_RATE = 1 / 300
MAX_COUNT = 2**31 - 1
"""Event.count is an int32."""


def object_key(event: Json) -> Key:
    """Source and involved object: client-go's getSpamKey without the type."""
    involved, source = event["involvedObject"].get, event["source"].get
    return (
        source("component"),
        source("host"),
        involved("kind"),
        involved("namespace"),
        involved("name"),
        involved("uid"),
        involved("apiVersion"),
    )


@dataclass(slots=True)
class EventSeries:
    """Equal events, or similar ones that are combined, are one object in the API server.

    name:            metadata.name of that Event, chosen before it is posted
    count:           occurrences so far, including those that the filter dropped
    first_timestamp: RFC 3339
    stored:          the API server has it: the next one is a PATCH
    """

    name: str
    first_timestamp: str
    count: int = 0
    stored: bool = False


class CorrelatedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is to be sent: named, counted, perhaps combined. `object_key` and `key` identify its series.

    text: JSON, as thousands wait in a burst
    """

    object_key: Key
    key: Key
    series: EventSeries
    namespace: str
    is_normal: bool
    text: bytes

    @classmethod
    def of(cls, object_key: Key, key: Key, event: Json, series: EventSeries) -> CorrelatedEvent:
        namespace = event["metadata"].get("namespace", "")
        return cls(object_key, key, series, namespace, event["type"] == "Normal", to_text(event))

    @property
    def event(self) -> Json:
        """The event, decoded anew."""
        event: Json = orjson.loads(self.text)
        return event


@dataclass(slots=True)
class _ObjectMemory:
    """State of one object. Messages are kept as hashes, as they may be long. owner: its key, the same object for all
    of its events; similar: when there was one last, and the messages, fewer than SIMILAR_LIMIT."""

    owner: Key
    spam: dict[str, TokenBucket] = field(default_factory=dict)
    similar: dict[Key, tuple[float, tuple[int, ...]]] = field(default_factory=dict)
    series: dict[Key, EventSeries] = field(default_factory=dict)


class EventCorrelator:
    """Caches the objects that had events last, with the newest event series of each."""

    def __init__(self, objects: int = OBJECTS, series_per_object: int = SERIES_PER_OBJECT) -> None:
        self._limit, self._series_limit = objects, series_per_object
        self._objects: dict[Key, _ObjectMemory] = {}

    def correlate(self, event: Json, now: float) -> CorrelatedEvent:
        """Combine and count one event, in place. It is counted even when the filter then drops it: see `allows`."""
        memory = self._recall(object_key(event))
        key = self._combine(memory, event, now)
        series = memory.series.pop(key, None)
        if series is None:
            series = EventSeries(event["metadata"]["name"], event["firstTimestamp"])
        _put(memory.series, key, series, self._series_limit)
        event["count"] = series.count = min(series.count + event["count"], MAX_COUNT)
        event["firstTimestamp"] = series.first_timestamp
        event["metadata"]["name"] = series.name
        return CorrelatedEvent.of(memory.owner, key, event, series)

    def allows(self, event: CorrelatedEvent, now: float) -> bool:
        """The spam filter: whether one more request may be made for events of this type about this object."""
        spam, event_type = self._recall(event.object_key).spam, event.key[0]
        if event_type not in spam:
            spam[event_type] = TokenBucket(SPAM_RATE, SPAM_BURST, now)
        return spam[event_type].try_take(now)

    def _recall(self, owner: Key) -> _ObjectMemory:
        memory = self._objects.pop(owner, None) or _ObjectMemory(owner)
        _put(self._objects, memory.owner, memory, self._limit)
        return memory

    def _combine(self, memory: _ObjectMemory, event: Json, now: float) -> Key:
        group = (event["type"], event["reason"])
        last_at, messages = memory.similar.pop(group, (now, ()))
        if now - last_at > SIMILAR_WINDOW_S:
            messages = ()
        message = hash(event["message"])
        known = messages if message in messages else (*messages, message)
        is_combined = len(known) >= SIMILAR_LIMIT
        _put(memory.similar, group, (now, messages if is_combined else known), self._series_limit)
        if not is_combined:
            return (*group, event["involvedObject"].get("fieldPath"), message)
        event["message"] = f"(combined from similar events): {event['message']}"
        return group


def _put(cache: dict[Key, ValueT], key: Key, value: ValueT, limit: int) -> None:
    """Add as the newest entry; evict the least recently used one beyond `limit`."""
    cache[key] = value
    if len(cache) > limit:
        del cache[next(iter(cache))]
