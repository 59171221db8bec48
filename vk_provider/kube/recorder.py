"""Posts events as a kubelet does: at low priority, counted instead of repeated, never blocking the caller.

An event is combined, counted and filtered when it is recorded (`correlator`); if it passes, it waits for its turn
(`eventqueue`) and for the rate limit. So a filtered event delays no other event.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.errors import KubeApiError
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.correlator import CorrelatedEvent, EventCorrelator
from vk_provider.kube.eventqueue import Done, EventQueue, WaitingEvent
from vk_provider.kube.paths import event_path
from vk_provider.rfc3339 import format_time
from vk_provider.wire.values import MAX_EVENT_TEXT

log = logging.getLogger(__name__)


_POSTERS = 4
_ATTEMPTS = 12
"""client-go's maxTriesPerEvent. Tries without an answer of the API server are not counted."""
_NAME_LIMIT = 253


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """Events per second, burst, and how many may wait. `busy_rate` applies while more urgent requests are open."""

    rate: float = 50.0
    burst: int = 100
    busy_rate: float = 10.0
    queue: int = 10_000


class Occurrence(msgspec.Struct, frozen=True):
    """When an event happened, and how often; by default once, now. Events that another process has noticed say more:

    timestamp:   RFC 3339, "" for now
    name_suffix: suffix of the Event's name (default: the time); an event that is recorded again with the same suffix,
                 also by a later process, is not posted twice
    on_done:     called once, perhaps before `record` returns, when the API server has the event or when it is dropped:
                 by the filter, refused by the API server, or because the queue is full
    """

    timestamp: str = ""
    count: int = 1
    name_suffix: str = ""
    on_done: Done | None = None


_ONCE = Occurrence()


class EventRecorder:
    """Queue and posters.

    host:    node name for source.host
    busy:    whether statuses are waiting to be sent; events are then limited to `busy_rate`
    clock, sleep: time.monotonic and asyncio.sleep
    dropped: events dropped so far: by the filter, by a full queue, or refused by the API server
    """

    def __init__(
        self,
        client: KubeClient,
        host: str = "",
        *,
        limits: RecorderLimits | None = None,
        busy: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._host = client, host
        self._limits = limits or RecorderLimits()
        self._busy = busy or (lambda: False)
        self._clock, self._sleep = clock, sleep
        self._queue = EventQueue()
        self._turn = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._correlator = EventCorrelator()
        self._bucket = TokenBucket(self._limits.rate, self._limits.burst, clock())
        self._pace = asyncio.Lock()
        self._overflowed = 0
        self.dropped = 0
        self.posted = 0

    def __len__(self) -> int:
        return len(self._queue)

    def record(
        self,
        involved: Json,
        event_type: str,
        reason: EventReason,
        message: str,
        field_path: str = "",
        *,
        component: str = "kubelet",
        host: str | None = None,
        occurrence: Occurrence = _ONCE,
    ) -> None:
        """Queue one event about `involved` (an API object or an ObjectReference). One that is equal to a waiting one is
        counted there."""
        reference = reference_to(involved, field_path)
        source = {"component": component, "host": self._host if host is None else host}
        event = _build_event(reference, source, event_type, reason, message, occurrence)
        now = self._clock()
        planned = self._correlator.correlate(event, now)
        done = [occurrence.on_done] if occurrence.on_done is not None else []
        waiting = self._queue.find(planned)
        if waiting is not None:
            waiting.planned = planned
            waiting.on_done += done
            return
        recorded = WaitingEvent(planned, done)
        if not self._correlator.allows(planned, now):
            self._give_up(recorded)
            return
        self._queue.add(recorded)
        self._idle.clear()
        if len(self._queue) > self._limits.queue:
            self._drop_one()
        self._turn.set()

    def _drop_one(self) -> None:
        self._give_up(self._queue.drop_one())
        self._overflowed += 1
        if self._overflowed == 1 or self._overflowed % 1000 == 0:
            log.warning("event queue is full: %d events dropped so far", self._overflowed)

    def _give_up(self, event: WaitingEvent) -> None:
        self.dropped += 1
        event.finish()

    async def run(self) -> None:
        """Post until cancelled."""
        async with asyncio.TaskGroup() as posters:
            for number in range(_POSTERS):
                posters.create_task(self._post_forever(), name=f"event-poster-{number}")

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded so far is posted; False when the time was too short."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("%d events not posted", len(self._queue))
            return False
        return True

    async def _post_forever(self) -> None:
        while True:
            event = await self._take()
            try:
                await self._post(event)
            except Exception:  # a fault about one event must not end the posting of all others
                log.exception("event %s not posted", event.planned.series.name)
                self._give_up(event)
            finally:
                self._queue.release(event)
                self._turn.set()
                if self._queue.is_idle:
                    self._idle.set()

    async def _take(self) -> WaitingEvent:
        """The next event, within the rate limit; one poster waits at a time, which keeps the order."""
        async with self._pace:
            while True:
                while not self._queue.has_turn:
                    self._turn.clear()
                    await self._turn.wait()
                await self._wait_for_rate()
                event = self._queue.take()
                if event is not None:  # None: it was dropped meanwhile
                    return event

    async def _wait_for_rate(self) -> None:
        wait_s = self._bucket.take(self._clock())
        if self._busy():
            wait_s = max(wait_s, 1 / self._limits.busy_rate)
        if wait_s > 0:
            await self._sleep(wait_s)

    async def _post(self, event: WaitingEvent) -> None:
        backoff = Backoff(first_s=0.5, max_s=10.0)
        series, attempts = event.planned.series, 0
        while True:
            try:
                await self._send(event.planned)
            except KubeApiError as error:
                if not (error.is_unanswered or error.is_throttled):
                    attempts += 1
                if attempts < _ATTEMPTS and error.is_not_found and series.stored:
                    series.stored = False  # expired meanwhile: created again, with its name and count (recordEvent)
                    continue
                if attempts >= _ATTEMPTS or (error.is_refusal and not error.is_unauthorized):
                    self._refused(event, error)
                    return
                await self._sleep(backoff.next_delay_s())
                continue
            self.posted += 1
            event.finish()
            return

    async def _send(self, planned: CorrelatedEvent) -> None:
        """Create or count up. Sets `stored`."""
        body, series = planned.event, planned.series
        if series.stored:
            await self._patch(body)
            return
        try:
            await self._client.create(event_path(body["metadata"]["namespace"]), body)
        except KubeApiError as error:
            if not error.is_conflict:
                raise
            # Created by us: the answer was lost, or an earlier process ended before it acknowledged the event.
            series.stored = True
            if body["count"] > 1:
                await self._patch(body)
        series.stored = True

    async def _patch(self, body: Json) -> None:
        patch = {name: body[name] for name in ("count", "lastTimestamp", "message")}
        metadata = body["metadata"]
        await self._client.patch_strategic(event_path(metadata["namespace"], metadata["name"]), patch)

    def _refused(self, event: WaitingEvent, error: KubeApiError) -> None:
        body = event.planned.event
        # A namespace that is being deleted accepts no new events: no warning.
        is_usual = error.is_forbidden or error.is_not_found or error.is_conflict
        level = logging.DEBUG if is_usual else logging.WARNING
        log.log(level, "event %s for %s not posted: %s", body["reason"], body["involvedObject"].get("name"), error)
        self._give_up(event)
        if error.is_not_found or (error.is_forbidden and "being terminated" in str(error)):
            # All other events of a namespace that is being deleted would be refused, too.
            for waiting in self._queue.drop_namespace(event.namespace):
                self._give_up(waiting)


def reference_to(involved: Json, field_path: str = "") -> Json:
    """ObjectReference to an API object; one without a kind, as items of a list are, is taken for a Pod."""
    if "metadata" not in involved:
        reference = copy.copy(involved)
    else:
        metadata = involved["metadata"]
        kind = involved.get("kind") or "Pod"
        reference = {"apiVersion": involved.get("apiVersion") or "v1", "kind": kind}
        reference |= {name: metadata[name] for name in ("namespace", "name", "uid") if metadata.get(name)}
        if kind != "Node" and metadata.get("resourceVersion"):
            reference["resourceVersion"] = metadata["resourceVersion"]
    if field_path:
        reference["fieldPath"] = field_path
    return reference


def _build_event(
    reference: Json,
    source: Json,
    event_type: str,
    reason: str,
    message: str,
    occurrence: Occurrence,
) -> Json:
    timestamp, suffix = occurrence.timestamp or format_time(), occurrence.name_suffix or f"{time.time_ns():x}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": _event_name(str(reference.get("name", "unknown")), suffix),
            "namespace": reference.get("namespace") or "default",
        },
        "involvedObject": reference,
        "type": event_type,
        "reason": reason,
        # An error's text may quote a file name that is no UTF-8.
        "message": message[:MAX_EVENT_TEXT].encode(errors="replace").decode(),
        "source": {name: value for name, value in source.items() if value},
        "reportingComponent": source["component"],
        "reportingInstance": source["host"],
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": occurrence.count,
    }


def _event_name(name: str, suffix: str) -> str:
    """Cuts an object's name that is too long for a suffix, as client-go's GenerateEventName."""
    return f"{name[: _NAME_LIMIT - 1 - len(suffix)].rstrip('-.')}.{suffix}"
