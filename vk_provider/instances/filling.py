"""Keeps instances of pools ready: fills the pools up, ends outdated ones, and stops those of a stopped pool once they
have been idle for a while (standby).

An instance of a pool is launched alone, so that its boot secret is no other instance's, and for no namespace: it is
nobody's until `supply` gives it to a pod, and that pod's alone from then on. Pods come first: a pool is filled up only
while no pod waits for a launch call, and an instance that gets ready goes to a pod that waits for capacity, if it fits.

Nothing is remembered: after a start the instances that are listed with a pool's tag are asked whether they are empty.
One that is beyond the size of its pool is left to the sweep.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator

from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import LaunchAnswer
from vk_provider.errors import CloudError
from vk_provider.instances.demand import Group
from vk_provider.instances.instance import OwnedInstance, Rest, Stage
from vk_provider.instances.launches import Launches
from vk_provider.instances.members import PoolMembers
from vk_provider.instances.pool import Pool
from vk_provider.instances.poolrules import Unclaimed
from vk_provider.instances.poolstores import APART_S, ASKED_S, PoolStores
from vk_provider.instances.standby import Standby
from vk_provider.sizing.pool import next_change_s
from vk_provider.sizing.selection import Refusal, Selection

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 4
SETTLE_S = 15.0
"""An instance of a stopped pool is stopped after it was idle for so long: its agent has rehearsed by then."""
LOOK_S = 60.0
"""A silent instance is noticed so late at most."""
OFFER_S = 15.0
"""A pod whose start has failed is launched for; if it still waits then, it is offered stopped ones again."""


class PoolFilling:
    """See module docstring. `run` is a root task."""

    def __init__(
        self, members: PoolMembers, stores: PoolStores, launches: Launches, supply: Unclaimed, standby: Standby
    ) -> None:
        self._members, self._stores = members, stores
        self._launches, self._supply, self._standby = launches, supply, standby
        self._idle_since: dict[str, float] = {}
        self._numbers = itertools.count()
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
        if members.pools:
            stores.follow(self.wake)
        launches.on_slack = self.wake

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, whose instance may be listed already."""
        return bool(self._tasks)

    # --- what becomes of instances -------------------------------------------------------------------------------

    def note_greeting(self, owned: OwnedInstance) -> None:
        """It is ready."""
        pool = self._members.pool_of(owned)
        if pool is not None:
            pool.backoff.reset()
        self.wake()

    def note_failure(self, owned: OwnedInstance) -> None:
        """It did not boot."""
        pool = self._members.pool_of(owned)
        if pool is not None:
            self._hold(pool, owned.boot_failed)

    def note_stopped(self, owned: OwnedInstance) -> None:
        """It is ready, and costs its disks alone."""
        pool = self._members.pool_of(owned)
        if pool is not None:
            pool.stop_backoff.reset()

    def note_not_stopped(self, owned: OwnedInstance, problem: CloudError) -> None:
        """It stays ready as it is, and is tried again later."""
        pool = self._members.pool_of(owned)
        if pool is not None and pool.stop_at <= time.monotonic():  # once for all of a call
            delay_s = pool.stop_backoff.next_delay_s()
            pool.stop_at = time.monotonic() + delay_s
            log.warning("instances of pool %s run on, next stop in %.0f s: %s", pool.spec.name, delay_s, problem)

    # --- the round -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            # One moment for all: what is not due yet as pools are filled up must be waited for, not taken for past.
            now, slack_s = time.monotonic(), self._launches.slack_in_s
            if self._supply.is_settled:
                self._members.note_silent()
                self._end_outdated()
                self._renew(now)
                self._stop_idle()
                self._fill_up(now)
            try:
                async with asyncio.timeout(self._pause_s(now, slack_s)):
                    await self._changed.wait()
            except TimeoutError:
                if self._supply.is_settled:
                    self._supply.offer_stopped(OFFER_S)

    def _pause_s(self, now: float, slack_s: float) -> float:
        due, pools = [LOOK_S, slack_s or self._launches.slack_in_s or LOOK_S], self._members.pools.values()
        for pool in pools:
            if pool.resume_at > now:
                due.append(pool.resume_at - now)
            if (change_s := next_change_s(pool.spec, time.time())) is not None:
                due.append(change_s)
        due += [self._stop_due(owned, now) - now for owned in self._to_stop()]
        due += [due_s for pool in pools if (due_s := self._find_unlike(pool, now)[1]) > 0]
        return max(0.0, min(due))

    # --- stops and ends ------------------------------------------------------------------------------------------

    def _to_stop(self) -> Iterator[OwnedInstance]:
        """Idle ones of stopped pools."""
        for owned in self._supply.unclaimed.values():
            pool = self._members.pool_of(owned)
            if pool is not None and pool.spec.is_stopped and owned.is_for_anybody and owned.is_idle:
                yield owned

    def _stop_due(self, owned: OwnedInstance, now: float) -> float:
        pool = self._members.pool_of(owned)
        idle_at = self._idle_since.get(owned.instance_id, now) + SETTLE_S
        return max(idle_at, pool.stop_at if pool is not None else 0.0)

    def _stop_idle(self) -> None:
        now, idle = time.monotonic(), list(self._to_stop())
        self._idle_since = {each.instance_id: self._idle_since.get(each.instance_id, now) for each in idle}
        for owned in idle:
            if self._stop_due(owned, now) <= now:
                self._idle_since[owned.instance_id] = now  # asked for again, should it be idle still
                self._standby.stop(owned)

    def _is_outdated(self, owned: OwnedInstance) -> bool:
        if not owned.is_for_anybody or owned.rest is Rest.STARTING or owned.stage not in (Stage.IDLE, Stage.STOPPED):
            return False
        pool = self._members.pool_of(owned)
        return pool is None or (owned.rest is Rest.STOPPED and not pool.spec.is_stopped)

    def _end_outdated(self) -> None:
        """Stopped ones, too, without a start."""
        for owned in list(self._supply.unclaimed.values()):
            if self._is_outdated(owned):
                log.info("instance %s of pool %s is of another configuration", owned.instance_id, owned.pool)
                self._supply.end(owned, "outdated")

    def _find_unlike(self, pool: Pool, now: float) -> tuple[OwnedInstance | None, float]:
        """One of other images than the pool should have now, and in how many seconds it is to be replaced. All of the
        pool are ready then: nobody waits for it."""
        members = list(self._members.of(pool))
        at_rest = [
            each for each in members if each.stage in (Stage.IDLE, Stage.STOPPED) and each.rest is not Rest.STARTING
        ]
        if pool.calls or len(at_rest) < len(members) or len(members) < pool.count():
            return None, 0.0
        owned, due_at = self._stores.find_outdated(members, pool.count())
        return owned, max(due_at - time.time(), pool.renew_at - now, pool.resume_at - now, 0.0)

    def _renew(self, now: float) -> None:
        """An end first, and as the pool is filled up again a launch: it needs no room of its own."""
        if not self._launches.has_slack or self._launches.is_launching:
            return
        for pool in self._members.pools.values():
            owned, due_s = self._find_unlike(pool, now)
            if owned is not None and due_s <= 0:
                pool.renew_at = now + APART_S
                log.info("instance %s of pool %s has other images than pods ask for", owned.instance_id, owned.pool)
                self._supply.end(owned, "outdated")

    # --- launches ------------------------------------------------------------------------------------------------

    def _fill_up(self, now: float) -> None:
        for pool in self._members.pools.values():
            missing = pool.count() - sum(1 for _ in self._members.of(pool)) - len(pool.calls)
            while missing > 0 and now >= pool.resume_at and len(self._tasks) < CALLS_AT_ONCE:
                if not self._launches.has_slack:
                    return
                selection = self._members.select(pool, self._launches.unavailable())
                if isinstance(selection, Refusal):
                    self._hold(pool, selection.message)
                    break
                had = [*pool.calls, *(owned.image_store for owned in self._members.of(pool))]
                store = self._stores.choose(had, pool.count(), selection.offering.architecture)
                pool.calls.append(store)
                pool.taken_at = 0.0
                missing -= 1
                self._tasks.spawn(self._launch(pool, selection, store), f"launch for pool {pool.spec.name}")

    async def _launch(self, pool: Pool, selection: Selection, store: str) -> None:
        group = Group(pool.spec.node, "", {}, selection, pool.paths, pool.digest, store)
        name = f"pool/{pool.spec.name}/{time.time_ns()}/{next(self._numbers)}"
        try:
            answer = await self._launches.launch_for_pool(group, pool.spec.name, name)
        finally:
            pool.calls.remove(store)
            self.wake()
        if answer is not None:
            self._settle(pool, answer, store)

    def _settle(self, pool: Pool, answer: LaunchAnswer, store: str) -> None:
        for instance in answer.instances:
            if not (instance.state.is_terminating or instance.state.has_stopped):
                owned = OwnedInstance(instance)
                if owned.image_store != store:  # another try would bring no better one
                    pool.renew_at = time.monotonic() + ASKED_S
                self._supply.stock_up(owned)
        if not answer.instances and answer.failures:
            self._hold(pool, str(answer.failures[-1].error))

    def _hold(self, pool: Pool, problem: str) -> None:
        delay_s = pool.backoff.next_delay_s()
        pool.resume_at = time.monotonic() + delay_s
        log.warning("pool %s is not filled up, next try in %.0f s: %s", pool.spec.name, delay_s, problem)
        self.wake()

    async def close(self) -> None:
        await self._tasks.close()
