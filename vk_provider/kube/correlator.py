"""Which event is new, which one only counts up, and which is too much. Pure: time is an argument.

The three steps and their figures are client-go's (tools/record/events_cache.go): a filter per object against floods,
a combined event for more than ten similar ones within ten minutes, and a count for equal ones.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.jsontypes import Json

Key = tuple[str, ...]

CACHE_SIZE = 4096
SIMILAR_LIMIT = 10
SIMILAR_WINDOW_S = 600.0
SPAM_BURST = 25
SPAM_RATE = 1 / 300


def group_key(event: Json) -> Key:
    """Similar events: equal in everything but the message."""
    involved, source = event["involvedObject"], event["source"]
    parts = ("kind", "namespace", "name", "uid", "apiVersion")
    return (
        *(str(involved.get(part, "")) for part in parts),
        source["component"],
        source.get("host", ""),
        event["type"],
        event["reason"],
    )


def event_key(event: Json) -> Key:
    """Equal events: the same text about the same part of the same object."""
    return (*group_key(event), event["involvedObject"].get("fieldPath", ""), event["message"])


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """What to send: a new event, or, with `existing_name`, a PATCH of one that is there."""

    event: Json
    key: Key
    existing_name: str = ""

    def as_new(self) -> PlannedEvent:
        """The same as a new event, when the old one has expired in the API server."""
        return replace(self, existing_name="", event={**self.event, "count": 1})


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Posted:
    name: str
    count: int
    first_timestamp: str


class EventCorrelator:
    """Remembers the newest few thousand events."""

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self._size = size
        self._spam: OrderedDict[Key, TokenBucket] = OrderedDict()
        self._similar: OrderedDict[Key, _Similar] = OrderedDict()
        self._posted: OrderedDict[Key, _Posted] = OrderedDict()

    def correlate(self, event: Json, now: float) -> PlannedEvent | None:
        """Plan one event; None when its object has had too many."""
        if not self._passes_spam_filter(event, now):
            return None
        key, event = self._aggregate(event, now)
        posted = self._posted.get(key)
        if posted is None:
            return PlannedEvent(event, key)
        counted = {**event, "count": posted.count + event["count"], "firstTimestamp": posted.first_timestamp}
        return PlannedEvent(counted, key, posted.name)

    def remember(self, planned: PlannedEvent, created: Json) -> None:
        """The event is in the API server now, under the name it says."""
        event = planned.event
        posted = _Posted(created["metadata"]["name"], event["count"], event["firstTimestamp"])
        self._put(self._posted, planned.key, posted)

    def _passes_spam_filter(self, event: Json, now: float) -> bool:
        involved, source = event["involvedObject"], event["source"]
        parts = ("kind", "namespace", "name", "uid", "apiVersion")
        key = (source["component"], source.get("host", ""), *(str(involved.get(part, "")) for part in parts))
        bucket = self._spam.get(key)
        if bucket is None:
            bucket = TokenBucket(SPAM_RATE, SPAM_BURST, now)
        self._put(self._spam, key, bucket)
        return bucket.try_take(now)

    def _aggregate(self, event: Json, now: float) -> tuple[Key, Json]:
        group = group_key(event)
        similar = self._similar.get(group)
        if similar is None or now - similar.last_at > SIMILAR_WINDOW_S:
            similar = _Similar()
        similar.messages.add(event["message"])
        similar.last_at = now
        self._put(self._similar, group, similar)
        if len(similar.messages) < SIMILAR_LIMIT:
            return event_key(event), event
        similar.messages.pop()
        return group, {**event, "message": f"(combined from similar events): {event['message']}"}

    def _put(self, cache: OrderedDict[Key, Any], key: Key, value: Any) -> None:
        cache[key] = value
        cache.move_to_end(key)
        if len(cache) > self._size:
            cache.popitem(last=False)
