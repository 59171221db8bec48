"""Stops idle instances of stopped pools, and starts them when pods take them: many in one call, a result for each.

Only an instance that nobody has is stopped or started here, so a stop of one that holds a pod is never ours: it ends
the pod, as ever. A pod that has taken a stopped instance waits for the outcome of the start as others wait for that of
a launch. Where the start is refused or not answered, the pod is launched for, and the instance stays: what has become
of it, a listing says.

Nothing is remembered: an instance of a pool that is listed as stopped, and that no pod has, is one of these.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import Cloud, InstanceState, StateResult
from vk_provider.cloud.codes import code_of
from vk_provider.errors import CloudError, CloudRequestError, CloudThrottledError
from vk_provider.instances.demand import Demand
from vk_provider.instances.gathering import Gathering
from vk_provider.instances.instance import OwnedInstance, Rest
from vk_provider.instances.links import InstanceLinks
from vk_provider.instances.pace import Pace
from vk_provider.instances.table import InstanceTable

log = logging.getLogger(__name__)

BATCH = 500
STARTS_AT_ONCE = 4
WINDOW_S = 0.5
"""How long instances that get idle are gathered before they are stopped."""
AGAIN_FIRST_S, AGAIN_MAX_S = 2.0, 30.0
LOOK_S = 10.0
"""Between two listings while instances stop, which takes EC2 up to a minute."""
STUCK_S = 600.0
"""One that has not stopped for so long is ended."""
HELD_S = 60.0
"""For so long an instance whose start was refused, or not answered, is offered to no other pod."""
PATIENCE_S = 1.0
"""A pod does not wait longer for a start while calls are throttled: a launch has another bucket."""
NEVER = frozenset({"IncorrectInstanceState", "InvalidInstanceID.NotFound", "UnsupportedOperation"})
"""Refusals of a start that are about this instance: it is ended. Any other one may be put right."""


_ENDED = CloudRequestError("IncorrectInstanceState: it is ended by now")


class StandbySide(Protocol):
    """Of instances.supply.Supply."""

    def started(self, owned: OwnedInstance, demand: Demand) -> bool:
        """It boots. False: the pod does not wait for it any more."""

    def not_started(self, owned: OwnedInstance, demand: Demand, problem: CloudError) -> None:
        """The pod needs another one."""

    def stopped(self, owned: OwnedInstance) -> None:
        """It has stopped as it was asked to."""

    def not_stopped(self, owned: OwnedInstance, problem: CloudError) -> None:
        """It runs on."""

    def examine(self, owned: OwnedInstance) -> None:
        """It runs, or boots, and nobody has it."""

    def end(self, owned: OwnedInstance, why: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Start:
    """demand: None once the pod needs it no more. release: gives back what is reserved in the budget."""

    owned: OwnedInstance
    demand: Demand | None
    release: Callable[[], None]
    since: float = field(default_factory=time.monotonic)


class Standby:
    """See module docstring. Writes OwnedInstance.rest."""

    def __init__(self, cloud: Cloud, table: InstanceTable, gather_s: float) -> None:
        self._cloud, self._table = cloud, table
        self._stop_pace, self._start_pace = Pace(1), Pace(STARTS_AT_ONCE)
        self._gathering = Gathering(gather_s)
        self._tasks = BackgroundTasks()
        self._resting: dict[str, OwnedInstance] = {}
        self._stops: dict[str, OwnedInstance] = {}
        self._stopping_since: dict[str, float] = {}
        self._starts: dict[str, _Start] = {}
        """By pod UID, until the outcome is known."""
        self._queue: list[_Start] = []
        self._held_until: dict[str, float] = {}
        self._doubted: set[str] = set()
        """IDs of those that may have started, as no listing has said yet."""
        self._all_held_until = 0.0
        self._is_stopping = self._is_starting = self._is_looking = False
        self.links: InstanceLinks
        self.side: StandbySide

    # --- what there is -------------------------------------------------------------------------------------------

    def adopt(self, owned: OwnedInstance) -> None:
        """It is listed as stopping or stopped, and nobody has it."""
        owned.rest = Rest.STOPPED if owned.described.state is InstanceState.STOPPED else Rest.STOPPING
        self._resting[owned.instance_id] = owned
        if owned.rest is Rest.STOPPING:
            self._expect_end(owned)

    def can_start(self, owned: OwnedInstance) -> bool:
        """Whether it has stopped, and a pod that takes it has a fair chance."""
        now = time.monotonic()
        is_held = now < max(self._all_held_until, self._held_until.get(owned.instance_id, 0.0))
        is_held = is_held or owned.instance_id in self._doubted
        return owned.rest is Rest.STOPPED and not is_held and self._start_pace.wait_s <= PATIENCE_S

    def look(self) -> None:
        """After a listing: what has stopped, runs again or is gone."""
        now = time.monotonic()
        for instance_id, owned in list(self._resting.items()):
            state = owned.described.state
            if owned.ended or not owned.rest:
                self._forget(instance_id)
            elif state.is_terminating or self._table.is_missing(instance_id):
                if owned.rest is not Rest.STARTING:
                    self._drop(owned, "gone")
            elif owned.rest is Rest.STOPPING and state is InstanceState.STOPPED:
                self._has_stopped(owned)
            elif owned.rest is Rest.STOPPED and state in (InstanceState.PENDING, InstanceState.RUNNING):
                log.info("instance %s of pool %s was started", instance_id, owned.pool)
                self._runs(owned)
            elif now - self._stopping_since.get(instance_id, now) > STUCK_S:
                log.error("instance %s of pool %s does not stop: it is ended", instance_id, owned.pool)
                self._drop(owned, "stuck")

    def _has_stopped(self, owned: OwnedInstance) -> None:
        owned.rest = Rest.STOPPED
        self._stopping_since.pop(owned.instance_id, None)
        self._stops.pop(owned.instance_id, None)
        self.side.stopped(owned)

    def _runs(self, owned: OwnedInstance) -> None:
        """Nobody has it: its agent is heard, as of any other."""
        owned.rest = Rest.NONE
        self._forget(owned.instance_id)
        self.side.examine(owned)

    def _drop(self, owned: OwnedInstance, why: str) -> None:
        self._forget(owned.instance_id)
        self.side.end(owned, why)

    def _forget(self, instance_id: str) -> None:
        for known in (self._resting, self._stops, self._stopping_since, self._held_until):
            known.pop(instance_id, None)

    # --- stops ---------------------------------------------------------------------------------------------------

    def stop(self, owned: OwnedInstance) -> None:
        """Stop an idle instance in a moment, unless a pod takes it before."""
        self._stops[owned.instance_id] = owned
        if not self._is_stopping:
            self._is_stopping = True
            self._tasks.spawn(self._run_stops(), "stop instances")

    async def _run_stops(self) -> None:
        backoff = Backoff(AGAIN_FIRST_S, AGAIN_MAX_S)
        try:
            await asyncio.sleep(WINDOW_S)
            while self._stops:
                if await self._stop_some():
                    backoff.reset()
                else:
                    await asyncio.sleep(backoff.next_delay_s())
        finally:
            self._is_stopping = False

    async def _stop_some(self) -> bool:
        """One call. False: its outcome is not known, so it is made again."""
        batch: list[OwnedInstance] = []
        try:
            async with self._stop_pace.turn():
                batch = self._take_stops()
                if not batch:
                    return True
                results = await self._cloud.stop_instances([owned.instance_id for owned in batch])
                if len(results) != len(batch):
                    raise CloudError(f"{len(results)} results for the stop of {len(batch)} instances")
        except CloudError as error:
            results = [error] * len(batch)
        except Exception as error:  # no fault may leave an instance without anybody who looks after it
            results = [_unexpected(error)] * len(batch)
        for owned, failure in zip(batch, results, strict=True):
            with contained(f"the stop of instance {owned.instance_id}"):
                self._note_stop(owned, failure)
        return not any(failure is not None and failure.effect_unknown for failure in results)

    def _take_stops(self) -> list[OwnedInstance]:
        """Those that are still idle, and those that may stop already. Their sessions end before the call: that an
        instance stops which we stop is no news of its link's."""
        batch: list[OwnedInstance] = []
        for owned in list(self._stops.values())[:BATCH]:
            del self._stops[owned.instance_id]
            if owned.ended or not (owned.rest is Rest.STOPPING or owned.is_idle):
                continue
            if not owned.rest:
                owned.rest = Rest.STOPPING
                self._resting[owned.instance_id] = owned
                self.links.begin_anew(owned)
            batch.append(owned)
        return batch

    def _note_stop(self, owned: OwnedInstance, failure: StateResult) -> None:
        if owned.ended or owned.rest is not Rest.STOPPING:
            return
        if failure is None:
            if owned.described.state in (InstanceState.PENDING, InstanceState.RUNNING):
                self._table.note_stop(owned)
            self._expect_end(owned)
        elif failure.effect_unknown:
            self._stopping_since.setdefault(owned.instance_id, time.monotonic())
            self._stops[owned.instance_id] = owned
        else:
            log.warning("instance %s of pool %s is not stopped: %s", owned.instance_id, owned.pool, failure)
            self._runs(owned)
            self.side.not_stopped(owned, failure)

    def _expect_end(self, owned: OwnedInstance) -> None:
        self._stopping_since.setdefault(owned.instance_id, time.monotonic())
        if not self._is_looking:
            self._is_looking = True
            self._tasks.spawn(self._watch(), "instances that stop")

    async def _watch(self) -> None:
        """Ask for listings while instances stop: a notice may be lost, and nobody else may ask."""
        try:
            while self._stopping_since:
                await asyncio.sleep(LOOK_S)
                try:
                    await self._table.refresh()
                except CloudError as error:
                    log.warning("whether instances have stopped is not known: %s", error)
        finally:
            self._is_looking = False

    # --- starts --------------------------------------------------------------------------------------------------

    def is_starting_for(self, uid: str) -> bool:
        return uid in self._starts

    def start(self, owned: OwnedInstance, demand: Demand, release: Callable[[], None]) -> None:
        """Start a stopped instance for the pod, with others that are taken meanwhile."""
        owned.rest = Rest.STARTING
        start = self._starts[demand.uid] = _Start(owned, demand, release)
        self._queue.append(start)
        if not self._is_starting:
            self._is_starting = True
            self._tasks.spawn(self._run_starts(), "start instances")

    def withdraw(self, uid: str) -> None:
        """The pod needs no instance any more."""
        start = self._starts.pop(uid, None)
        if start is not None:
            start.demand = None

    async def _run_starts(self) -> None:
        try:
            await asyncio.sleep(0.0)  # pods of one read of the watch share a call
            while self._queue:
                is_full = len(self._queue) >= BATCH
                if wait_s := (0.0 if is_full else self._gathering.wait_s(self._queue[0].since)):
                    await asyncio.sleep(wait_s)
                    continue
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                self._gathering.note_call(len(batch) == 1 and len(self._starts) == 1)
                self._tasks.spawn(self._start_some(batch), "start a batch")
        finally:
            self._is_starting = False

    async def _start_some(self, given: Sequence[_Start]) -> None:
        batch = [start for start in given if self._is_wanted(start)]
        if not batch:
            return
        results: Sequence[StateResult]
        try:
            async with asyncio.timeout(PATIENCE_S) as limit, self._start_pace.turn():
                limit.reschedule(None)  # it was for the turn alone
                results = await self._cloud.start_instances([start.owned.instance_id for start in batch])
                if len(results) != len(batch):
                    raise CloudError(f"{len(results)} results for the start of {len(batch)} instances")
        except TimeoutError as error:
            waited = CloudThrottledError("RequestLimitExceeded: starts wait")
            results = [waited if limit.expired() else _unexpected(error)] * len(batch)
        except CloudError as error:
            results = [error] * len(batch)
        except Exception as error:  # no fault may leave a pod that nobody looks after
            results = [_unexpected(error)] * len(batch)
        for start, failure in zip(batch, results, strict=True):
            with contained(f"the start of instance {start.owned.instance_id}"):
                self._note_start(start, failure)

    def _is_wanted(self, start: _Start) -> bool:
        if start.demand is not None and not start.owned.ended:
            return True
        if start.demand is not None:
            self._note_start(start, _ENDED)
            return False
        start.release()
        if start.owned.rest is Rest.STARTING:
            start.owned.rest = Rest.STOPPED
        return False

    def _note_start(self, start: _Start, failure: StateResult) -> None:
        owned, demand = start.owned, start.demand
        failure = failure or (_ENDED if owned.ended else None)
        if demand is not None:
            self._starts.pop(demand.uid, None)
        try:
            if failure is None:
                self._note_started(owned, demand)
            else:
                self._note_failure(owned, failure)
        finally:
            if failure is not None and failure.effect_unknown and not owned.ended:
                self._doubted.add(owned.instance_id)
                self._tasks.spawn(self._ask(owned, start.release), f"whether {owned.instance_id} has started")
            else:
                start.release()
        if demand is not None and failure is not None:
            self.side.not_started(owned, demand, failure)

    def _note_started(self, owned: OwnedInstance, demand: Demand | None) -> None:
        if owned.described.state is InstanceState.STOPPED:
            self._table.note_start(owned)
        owned.rest = Rest.NONE
        self._forget(owned.instance_id)
        if demand is None or not self.side.started(owned, demand):
            self.side.examine(owned)

    def _note_failure(self, owned: OwnedInstance, failure: CloudError) -> None:
        if owned.ended:
            return
        owned.rest = Rest.STOPPED
        self._resting[owned.instance_id] = owned
        now = time.monotonic()
        if not isinstance(failure, CloudRequestError):
            self._held_until[owned.instance_id] = now + HELD_S
        elif code_of(failure) in NEVER:
            self._drop(owned, "not-startable")
        else:
            self._all_held_until = now + HELD_S

    async def _ask(self, owned: OwnedInstance, release: Callable[[], None]) -> None:
        """What may run keeps its room in the budget, and is offered to no pod, until a listing has said whether it
        does: a second start would be taken for the first, and the time between them be missing in the ledger."""
        backoff = Backoff(AGAIN_FIRST_S, AGAIN_MAX_S)
        try:
            while not owned.ended:
                try:
                    await self._table.refresh()
                    return
                except CloudError as error:
                    log.warning("whether instance %s has started is not known: %s", owned.instance_id, error)
                await asyncio.sleep(backoff.next_delay_s())
        finally:
            self._doubted.discard(owned.instance_id)
            release()

    async def close(self) -> None:
        """Instances stay as they are."""
        await self._tasks.close()


def _unexpected(error: Exception) -> CloudError:
    log.error("stopped instances: %s", error, exc_info=error)
    return CloudError(f"{type(error).__name__}: {error}")
