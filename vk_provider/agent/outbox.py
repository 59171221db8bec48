"""Messages for the provider until they are sent: newest status, images and stats, events.

A session takes its messages from it. Events that are not acknowledged are also kept by an EventStore, so that they
survive the agent with their sequence numbers. See wire.session for the messages and what is repeated when.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol, cast

from vk_provider.agent.interruption import SpotAction
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_time
from vk_provider.wire.blobs import BlobsMessage
from vk_provider.wire.identity import IdentityMessage
from vk_provider.wire.images import ImagesMessage, ImageUse
from vk_provider.wire.notices import NoticeMessage
from vk_provider.wire.podstatus import PodStatus
from vk_provider.wire.session import MAX_EVENT_COUNT, EventMessage, StatsMessage, StatusMessage
from vk_provider.wire.tables import TablesMessage
from vk_provider.wire.values import MAX_EVENT_TEXT

log = logging.getLogger(__name__)

EVENT_LIMIT = 500
"""Limit of unacknowledged events; beyond it the oldest Normal one is dropped first."""


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class EventStore(Protocol):
    """Keeps events over a crash of the agent. Called on the loop: must not block, must not raise."""

    def load(self) -> tuple[list[EventMessage], int]: ...

    def add(self, event: EventMessage, kept: Collection[EventMessage]) -> None: ...

    def acknowledge(self, seq: int, kept: Collection[EventMessage]) -> None: ...


class Outbox:
    """Written by the pod worker and the stats loop, emptied by one session at a time.

    store: where the events are first loaded and then kept; None: only in memory
    """

    def __init__(
        self,
        event_limit: int = EVENT_LIMIT,
        clock: Callable[[], datetime.datetime] = _utc_now,
        store: EventStore | None = None,
    ) -> None:
        self._event_limit = event_limit
        self._clock = clock
        self._store = store
        self._status: StatusMessage | None = None
        self._stats: StatsMessage | None = None
        self._tables: dict[str, TablesMessage] = {}
        self._images: ImagesMessage | None = None
        self._notice: SpotAction | None = None
        self._notices_for = ""
        self._blobs: BlobsMessage | None = None
        self._identity: IdentityMessage | None = None
        self._events: deque[EventMessage] = deque()
        self._unsent: dict[tuple[str, ...], EventMessage] = {}
        # The sequence also increases over a restart without kept events: microseconds are ahead of events.
        self._last_seq = time.time_ns() // 1000
        self._sent_seq = 0
        self._status_due = self._stats_due = self._images_due = self._notice_due = self._blobs_due = False
        self._identity_due = False
        self._due = asyncio.Event()
        self.dropped_events = 0
        if store is not None:
            self._restore(*store.load())

    def send_status(self, pod_uid: str, status: Json, finished: bool) -> None:
        """The pod's newest PodStatus; a status not sent yet is replaced."""
        self._status = StatusMessage(type="status", podUID=pod_uid, status=cast(PodStatus, status), finished=finished)
        self._status_due = True
        self._due.set()

    def send_event(
        self, pod_uid: str, event_type: str, reason: EventReason, message: str, field_path: str = ""
    ) -> None:
        """An event about the pod; sent again until the provider acknowledges it. event_type: "Normal" | "Warning".

        One that is equal to an event not sent yet is counted there. An event that was sent may have been posted: it is
        not changed any more.
        """
        timestamp = format_time(self._clock().timestamp())
        key = (event_type, reason, message, field_path)
        waiting = self._unsent.get(key)
        if waiting is not None and waiting.get("count", 1) < MAX_EVENT_COUNT:
            waiting["count"] = waiting.get("count", 1) + 1
            waiting["timestamp"] = timestamp
            if self._store is not None:
                self._store.add(waiting, self._events)
            return
        if len(self._events) >= self._event_limit:
            self._drop_one()
        self._last_seq += 1
        event = EventMessage(
            type="event",
            seq=self._last_seq,
            podUID=pod_uid,
            eventType="Warning" if event_type == "Warning" else "Normal",
            reason=reason,
            message=message[:MAX_EVENT_TEXT],
            fieldPath=field_path,
            timestamp=timestamp,
        )
        self._events.append(event)
        self._unsent[key] = event
        if self._store is not None:
            self._store.add(event, self._events)
        self._due.set()

    def send_stats(self, message: StatsMessage) -> None:
        """The newest stats sample; an older one that was not sent is dropped."""
        self._stats = message
        self._stats_due = True
        self._due.set()

    def send_tables(self, message: TablesMessage) -> None:
        """The tables in force; one that was not sent yet is replaced if it answers for the same table, or none as well.
        The greeting of a later session tells the same."""
        self._tables[message.get("name", "")] = message
        self._due.set()

    def send_identity(self, pod_uid: str, tokens: list[str]) -> None:
        """The tokens that containers wait for; a list that was not sent yet is replaced. Nothing is sent where none
        waits any more."""
        self._identity = IdentityMessage(type="identity", podUID=pod_uid, tokens=tokens) if tokens else None
        self._identity_due = bool(tokens)
        self._due.set()

    def send_images(self, pod_uid: str, images: list[ImageUse]) -> None:
        """The images that the pod has so far; a list that was not sent yet is replaced."""
        self._images = ImagesMessage(type="images", podUID=pod_uid, images=images)
        self._images_due = True
        self._due.set()

    def send_notice(self, action: SpotAction) -> None:
        """What the cloud will do to the instance, once a provider that takes it has given it a pod."""
        self._notice = action
        self._notice_due = bool(self._notices_for)
        self._due.set()

    def tell_notices(self, pod_uid: str) -> None:
        """The provider of this pod takes notices."""
        if pod_uid != self._notices_for:
            self._notices_for = pod_uid
            self._notice_due = self._notice is not None
            self._due.set()

    def send_blobs(self, message: BlobsMessage) -> None:
        """The blobs of this instance; a message that was not sent yet is replaced."""
        self._blobs = message
        self._blobs_due = True
        self._due.set()

    def acknowledge(self, seq: int) -> None:
        """Forget the events up to `seq`."""
        before = len(self._events)
        while self._events and self._events[0]["seq"] <= seq:
            self._events.popleft()
        self._forget_unsent(0, seq)
        if self._store is not None and len(self._events) < before:
            self._store.acknowledge(seq, self._events)

    def start_session(self) -> None:
        """A new session begins: send it the newest status, stats, images and blobs, and all unacknowledged events."""
        self._sent_seq = 0
        self._status_due = self._status is not None
        self._stats_due = self._stats is not None
        self._images_due = self._images is not None
        self._notice_due = self._notice is not None and bool(self._notices_for)
        self._blobs_due = self._blobs is not None
        self._identity_due = self._identity is not None
        self._tables.clear()
        self._due.set()

    async def take(self) -> list[Json]:
        """Wait for the next message to send, in the order tables, blobs, identity, status, images, notice, events,
        stats."""
        while True:
            await self._due.wait()
            self._due.clear()
            messages = self._collect()
            if messages:
                return messages

    def _collect(self) -> list[Json]:
        messages: list[Json] = [dict(message) for message in self._tables.values()]
        self._tables.clear()
        if self._blobs_due and self._blobs is not None:
            messages.append(dict(self._blobs))
        if self._identity_due and self._identity is not None:
            messages.append(dict(self._identity))
        if self._status_due and self._status is not None:
            messages.append(dict(self._status))
        if self._images_due and self._images is not None:
            messages.append(dict(self._images))
        if self._notice_due and self._notice is not None:
            uid, action = self._notices_for, self._notice
            messages.append(dict(NoticeMessage(type="notice", podUID=uid, action=action.action, time=action.time)))
        messages += [dict(event) for event in self._events if event["seq"] > self._sent_seq]
        if self._stats_due and self._stats is not None:
            messages.append(dict(self._stats))
        self._status_due = self._stats_due = self._images_due = self._notice_due = self._blobs_due = False
        self._identity_due = False
        if self._events:
            self._sent_seq = self._events[-1]["seq"]
        self._unsent.clear()
        return messages

    def unacknowledged(self) -> list[EventMessage]:
        """Events that the provider has not acknowledged."""
        return list(self._events)

    def _restore(self, events: list[EventMessage], acknowledged: int) -> None:
        self._events.extend(events)
        while len(self._events) > self._event_limit:
            self._drop_one()
        # The clock may have been set back: a number is never reused.
        self._last_seq = max(self._last_seq, acknowledged, *(event["seq"] for event in events))

    def _forget_unsent(self, first: int, last: int) -> None:
        """Drop the counting keys of events that are not kept any more."""
        self._unsent = {key: event for key, event in self._unsent.items() if not first <= event["seq"] <= last}

    def _drop_one(self) -> None:
        victim = next((event for event in self._events if event["eventType"] == "Normal"), self._events[0])
        self._events.remove(victim)
        self._forget_unsent(victim["seq"], victim["seq"])
        self.dropped_events += 1
        if self.dropped_events in (1, 10, 100, 1000):
            log.warning("%d events dropped: the provider does not acknowledge them", self.dropped_events)
