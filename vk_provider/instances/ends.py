"""Ends instances: terminations in batches, a result for each, verified by the table, tried again until they come true.

The caller waits for one try only. An instance that cannot be terminated delays neither its pod nor a replacement nor
the rest of a batch. After STUCK_AFTER_S it is reported: an event on its pod, a metric, an error in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, KeysView, Set
from dataclasses import dataclass, field
from functools import partial

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import Cloud, Instance
from vk_provider.errors import CloudAccessError, CloudError, CloudThrottledError
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.pace import Pace
from vk_provider.ledger.meter import Meter

log = logging.getLogger(__name__)

WINDOW_S = 0.02
BATCH = 500
CALLS_AT_ONCE = 4
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
FIRST_TRY_S = 10.0
"""How long a caller waits for the first try, while calls are throttled."""
STUCK_AFTER_S = 300.0
"""An instance that could not be terminated for so long is reported: it costs money and needs an operator."""
VERIFY_AFTER_S = 60.0
"""An instance that a listing shows as it was, so long after its termination was accepted, is terminated again."""

OnStuck = Callable[[str], None]
"""Called once with a message for the owner of the instance's pod. It is kept until the end has come true, longer than
anybody wants to keep the pod."""


@dataclass(slots=True, eq=False)
class _Ending:
    """tried: whether the first try was accepted. accepted_at: monotonic, 0.0 before."""

    instance_id: str
    on_stuck: OnStuck
    since: float
    tried: asyncio.Future[bool]
    accepted_at: float = 0.0
    reported: bool = False
    backoff: Backoff = field(default_factory=lambda: Backoff(RETRY_FIRST_S, RETRY_MAX_S))


class Ends:
    """All terminations of this process, until a listing shows their end or does not list them any more."""

    def __init__(self, cloud: Cloud, metrics: InstanceMetrics, meter: Meter) -> None:
        self._cloud = cloud
        self._metrics = metrics
        self._meter = meter
        self._pace = Pace(CALLS_AT_ONCE)
        self._endings: dict[str, _Ending] = {}
        self._queue: dict[str, _Ending] = {}
        self._unaccepted: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = BackgroundTasks()
        self.on_let_go: Callable[[OwnedInstance], None] = lambda owned: None

    @property
    def known(self) -> KeysView[str]:
        """IDs of instances that are ending: nobody else needs to look after them."""
        return self._endings.keys()

    @property
    def pending(self) -> Set[str]:
        """Those whose termination was not accepted yet."""
        return self._unaccepted

    @property
    def stuck(self) -> frozenset[str]:
        return frozenset(name for name in self._unaccepted if self._endings[name].reported)

    async def end(self, instance_id: str, why: str, on_stuck: OnStuck = lambda message: None) -> bool:
        """Returns whether the cloud has accepted it at the first try; if not, it is tried again until it does.

        why: a word for the metric, such as "pod-ended"
        """
        ending = self._endings.get(instance_id)
        if ending is None:
            tried = asyncio.get_running_loop().create_future()
            ending = self._endings[instance_id] = _Ending(instance_id, on_stuck, time.monotonic(), tried)
            self._unaccepted.add(instance_id)
            self._put(ending)
        elif ending.tried.done():
            return bool(ending.accepted_at)
        try:
            async with asyncio.timeout(FIRST_TRY_S):
                accepted = await asyncio.shield(ending.tried)
        except TimeoutError:
            accepted = False
        self._metrics.terminations.labels(why if accepted else "failed").inc()
        return accepted

    def mark(self, owned: OwnedInstance) -> None:
        """It is to be terminated: nobody else may have it any more."""
        owned.ended = True

    def let_go(self, owned: OwnedInstance, why: str, on_accepted: Callable[[], None] = lambda: None) -> None:
        """End an instance that nobody has, without waiting. on_accepted: called if the first try was accepted."""
        self.mark(owned)
        self.on_let_go(owned)
        self._tasks.spawn(self._let_go(owned.instance_id, why, on_accepted), f"end {owned.instance_id}")

    async def _let_go(self, instance_id: str, why: str, on_accepted: Callable[[], None]) -> None:
        if await self.end(instance_id, why):
            on_accepted()

    def _put(self, ending: _Ending) -> None:
        self._queue[ending.instance_id] = ending
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._queue:
            self._tasks.spawn(self._run(), "terminate")

    async def _run(self) -> None:
        while self._queue:
            await self._terminate(self._take_batch)

    def _take_batch(self) -> list[_Ending]:
        return [self._queue.pop(name) for name in list(self._queue)[:BATCH]]

    async def _terminate(self, take: Callable[[], list[_Ending]]) -> None:
        """One call for what `take` returns when its turn comes: whatever waits until then goes into it together."""
        batch: list[_Ending] = []
        try:
            async with self._pace.turn():
                batch = take()
                if not batch:
                    return
                results = await self._cloud.terminate([ending.instance_id for ending in batch])
                if len(results) != len(batch):
                    raise CloudError(f"{len(results)} results for the termination of {len(batch)} instances")
        except CloudThrottledError as error:
            log.warning("terminations wait: %s", error)
            for ending in batch:
                self._put(ending)
        except Exception as error:  # no fault may end the only task that tries
            self._halve(batch, error)
        else:
            for ending, failure in zip(batch, results, strict=True):
                self._note(ending, failure)

    def _halve(self, batch: list[_Ending], error: Exception) -> None:
        """The whole call has failed: one bad ID may have done it, which alone must suffer for it."""
        if len(batch) == 1 or not isinstance(error, CloudError) or isinstance(error, CloudAccessError):
            for ending in batch:
                self._note(ending, error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            self._tasks.spawn(self._terminate(partial(list, half)), "terminate a part")

    def _note(self, ending: _Ending, failure: Exception | None) -> None:
        first = not ending.tried.done()
        if first:
            ending.tried.set_result(failure is None)
        if failure is None:
            ending.accepted_at = time.monotonic()
            self._unaccepted.discard(ending.instance_id)
            self._meter.ended(ending.instance_id)
            if not first:
                log.info("instance %s is terminated after retries", ending.instance_id)
            return
        if first:
            log.warning("instance %s is not terminated, trying again: %s", ending.instance_id, failure)
        if not ending.reported and time.monotonic() - ending.since >= STUCK_AFTER_S:
            ending.reported = True
            text = f"instance {ending.instance_id} cannot be terminated and still costs money: {failure}"
            log.error("%s", text)
            ending.on_stuck(text)
        self._tasks.spawn(self._again(ending), f"terminate {ending.instance_id}")

    async def _again(self, ending: _Ending) -> None:
        await asyncio.sleep(ending.backoff.next_delay_s())
        self._put(ending)

    def verify(self, listed: dict[str, Instance]) -> None:
        """A complete listing: forget what has ended, terminate again what does not look like it."""
        now = time.monotonic()
        for instance_id, ending in list(self._endings.items()):
            if not ending.accepted_at:
                continue
            instance = listed.get(instance_id)
            old = now - ending.accepted_at >= VERIFY_AFTER_S
            if instance is None or instance.state.is_terminating:
                if old or instance is not None:
                    del self._endings[instance_id]
            elif old:
                log.warning("instance %s is %s long after its termination: again", instance_id, instance.state)
                ending.accepted_at = 0.0
                self._unaccepted.add(instance_id)
                self._meter.runs_on(instance_id)
                self._put(ending)

    async def close(self) -> None:
        """Cancel all; the sweep of the next process continues."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        for ending in self._endings.values():
            ending.tried.cancel()
