"""Posts events the way a kubelet does: behind everything else, counted instead of repeated, never blocking a caller."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.correlator import EventCorrelator, event_key
from vk_provider.kube.paths import event_path
from vk_provider.rfc3339 import format_time

log = logging.getLogger(__name__)


_POSTERS = 4
_ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """Events per second, burst, and how many may wait. `busy_rate` holds while something more urgent is sent."""

    rate: float = 50.0
    burst: int = 100
    busy_rate: float = 10.0
    queue: int = 10_000


class EventRecorder:
    """Queue and posters.

    host:    node name that stands in source.host
    busy:    says whether statuses are waiting to be sent; events then go slower, but they do go
    dropped: events given up so far, because the queue was full or the API server refused them
    """

    def __init__(
        self,
        client: KubeClient,
        host: str = "",
        *,
        limits: RecorderLimits | None = None,
        busy: Callable[[], bool] | None = None,
    ) -> None:
        self._client, self._host = client, host
        self._limits = limits or RecorderLimits()
        self._busy = busy or (lambda: False)
        self._queue: OrderedDict[tuple[str, ...], Json] = OrderedDict()
        self._normal: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._waiting = asyncio.Event()
        self._posting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._correlator = EventCorrelator()
        self._bucket = TokenBucket(self._limits.rate, self._limits.burst, time.monotonic())
        self._pace = asyncio.Lock()
        self.dropped = 0
        self.posted = 0

    def __len__(self) -> int:
        return len(self._queue)

    def record(
        self,
        involved: Json,
        event_type: str,
        reason: str,
        message: str,
        field_path: str = "",
        *,
        component: str = "kubelet",
        host: str | None = None,
        timestamp: str | None = None,
        count: int = 1,
    ) -> None:
        """Queue one event about `involved` (an API object or an ObjectReference); `timestamp` RFC 3339, default now."""
        reference = reference_to(involved, field_path)
        source = {"component": component, "host": self._host if host is None else host}
        event = _build_event(reference, source, event_type, reason, message, timestamp or format_time(), count)
        key = event_key(event)
        waiting = self._queue.get(key)
        if waiting is not None:
            waiting["count"] += count
            waiting["lastTimestamp"] = event["lastTimestamp"]
            return
        self._queue[key] = event
        if event_type == "Normal":
            self._normal[key] = None
        if len(self._queue) > self._limits.queue:
            self._drop_one()
        self._idle.clear()
        self._waiting.set()

    def _drop_one(self) -> None:
        """Give up the oldest Normal event, or the oldest of all."""
        key = self._normal.popitem(last=False)[0] if self._normal else next(iter(self._queue))
        del self._queue[key]
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1000 == 0:
            log.warning("event queue is full: %d events dropped so far", self.dropped)

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
            while not self._queue:
                self._waiting.clear()
                await self._waiting.wait()
            await self._take_turn()
            if not self._queue:
                continue
            key, event = self._queue.popitem(last=False)
            self._normal.pop(key, None)
            self._posting += 1
            try:
                await self._post(event)
            finally:
                self._posting -= 1
                if not self._queue and not self._posting:
                    self._idle.set()

    async def _take_turn(self) -> None:
        """Wait for the rate limit; one poster at a time, so that the order is kept."""
        async with self._pace:
            wait_s = self._bucket.take(time.monotonic())
            if self._busy():
                wait_s = max(wait_s, 1 / self._limits.busy_rate)
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    async def _post(self, event: Json) -> None:
        planned = self._correlator.correlate(event, time.monotonic())
        if planned is None:
            self.dropped += 1
            return
        backoff = Backoff(first_s=0.5, max_s=10.0)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                created = await self._send(planned.event, planned.existing_name)
            except KubeApiError as error:
                if error.is_not_found and planned.existing_name:
                    planned = planned.as_new()
                    continue
                if error.is_refusal or attempt == _ATTEMPTS:
                    self._refused(event, error)
                    return
                await asyncio.sleep(backoff.next_delay_s())
                continue
            self._correlator.remember(planned, created)
            self.posted += 1
            return

    async def _send(self, event: Json, existing_name: str) -> Json:
        namespace = event["metadata"]["namespace"]
        if not existing_name:
            return await self._client.create(event_path(namespace), event)
        patch = {name: event[name] for name in ("count", "lastTimestamp", "message")}
        return await self._client.patch_strategic(event_path(namespace, existing_name), patch)

    def _refused(self, event: Json, error: KubeApiError) -> None:
        self.dropped += 1
        # A namespace that is being deleted takes no new events; nobody misses them.
        level = logging.DEBUG if error.status in (403, 404, 409) else logging.WARNING
        log.log(level, "event %s for %s not posted: %s", event["reason"], event["involvedObject"].get("name"), error)
        if error.is_not_found or (error.is_forbidden and "being terminated" in str(error)):
            self._forget_namespace(event["metadata"]["namespace"])

    def _forget_namespace(self, namespace: str) -> None:
        """The rest of a namespace that goes away would be refused one by one."""
        for key in [key for key, event in self._queue.items() if event["metadata"]["namespace"] == namespace]:
            del self._queue[key]
            self._normal.pop(key, None)
            self.dropped += 1


def reference_to(involved: Json, field_path: str = "") -> Json:
    """ObjectReference to an API object; objects of a list carry no kind: a Pod is taken to be meant."""
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
    reference: Json, source: Json, event_type: str, reason: str, message: str, timestamp: str, count: int
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{reference.get('name', 'unknown')}.{time.time_ns():x}",
            "namespace": reference.get("namespace") or "default",
        },
        "involvedObject": reference,
        "type": event_type,
        "reason": reason,
        "message": message[:1024],
        "source": {name: value for name, value in source.items() if value},
        "reportingComponent": source["component"],
        "reportingInstance": source["host"],
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": count,
    }
