"""What the agent has to tell the provider, kept until it was told: newest status, events, newest stats.

No I/O: a session takes from it what it sends. See wire.session for the messages and what is repeated when.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from vk_provider.wire.session import EventMessage, StatsMessage, StatusMessage

log = logging.getLogger(__name__)

EVENT_LIMIT = 500
"""Events kept while nobody acknowledges them; then the oldest Normal one goes first."""

Message = dict[str, Any]


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Outbox:
    """Written by the pod worker and the stats loop, emptied by one session at a time."""

    def __init__(self, event_limit: int = EVENT_LIMIT, clock: Callable[[], datetime.datetime] = _utc_now) -> None:
        self._event_limit = event_limit
        self._clock = clock
        self._status: StatusMessage | None = None
        self._stats: StatsMessage | None = None
        self._events: deque[EventMessage] = deque()
        # The sequence goes on after a restart of the agent without being stored: microseconds are ahead of events.
        self._last_seq = time.time_ns() // 1000
        self._sent_seq = 0
        self._status_due = self._stats_due = False
        self._due = asyncio.Event()
        self.dropped_events = 0

    def send_status(self, pod_uid: str, status: Message, finished: bool) -> None:
        """The pod's newest PodStatus; a status not sent yet is replaced."""
        self._status = StatusMessage(type="status", podUID=pod_uid, status=status, finished=finished)
        self._status_due = True
        self._due.set()

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        """An event about the pod; sent again until the provider acknowledges it. event_type: "Normal" | "Warning"."""
        if len(self._events) >= self._event_limit:
            self._drop_one()
        self._last_seq += 1
        self._events.append(
            EventMessage(
                type="event",
                seq=self._last_seq,
                podUID=pod_uid,
                eventType="Warning" if event_type == "Warning" else "Normal",
                reason=reason,
                message=message,
                fieldPath=field_path,
                timestamp=self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
        )
        self._due.set()

    def send_stats(self, message: StatsMessage) -> None:
        """The newest stats sample; an older one that was not sent is forgotten."""
        self._stats = message
        self._stats_due = True
        self._due.set()

    def acknowledge(self, seq: int) -> None:
        """Forget the events up to `seq`."""
        while self._events and self._events[0]["seq"] <= seq:
            self._events.popleft()

    def start_session(self) -> None:
        """A new session begins: it gets the newest status and stats and every event not acknowledged."""
        self._sent_seq = 0
        self._status_due = self._status is not None
        self._stats_due = self._stats is not None
        self._due.set()

    async def take(self) -> list[Message]:
        """Wait until something is due and return it, in the order to send: status, events, stats."""
        while True:
            await self._due.wait()
            self._due.clear()
            messages = self._collect()
            if messages:
                return messages

    def _collect(self) -> list[Message]:
        messages: list[Message] = []
        if self._status_due and self._status is not None:
            messages.append(dict(self._status))
        messages += [dict(event) for event in self._events if event["seq"] > self._sent_seq]
        if self._stats_due and self._stats is not None:
            messages.append(dict(self._stats))
        self._status_due = self._stats_due = False
        if self._events:
            self._sent_seq = self._events[-1]["seq"]
        return messages

    def unacknowledged(self) -> list[EventMessage]:
        """Events to keep over a restart of the agent."""
        return list(self._events)

    def restore(self, events: Iterable[EventMessage]) -> None:
        """Put back what `unacknowledged` gave, before anything else is sent."""
        self._events.extendleft(reversed(list(events)))
        if self._events:
            self._last_seq = max(self._last_seq, self._events[-1]["seq"])
            self._due.set()

    def _drop_one(self) -> None:
        victim = next((event for event in self._events if event["eventType"] == "Normal"), self._events[0])
        self._events.remove(victim)
        self.dropped_events += 1
        if self.dropped_events in (1, 10, 100, 1000):
            log.warning("%d events dropped: nobody takes them over", self.dropped_events)
