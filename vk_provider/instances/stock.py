"""Keeps instances of pools ready: fills the pools up, gives a pod the cheapest one that fits, ends outdated ones. Those
of a stopped pool are stopped once they have been idle for a while (standby), and given to pods that then start them.

An instance of a pool is launched alone, so that its boot secret is no other instance's, and for no namespace: it is
nobody's until `supply` gives it to a pod, and that pod's alone from then on. Pods come first: a pool is filled up only
while no pod waits for a launch call, and an instance that gets ready goes to a pod that waits for capacity, if it fits.

Nothing is remembered: after a start the instances that are listed with a pool's tag are asked whether they are empty.
One that is beyond the size of its pool is left to the sweep.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import LaunchAnswer, Offering, offering_key
from vk_provider.errors import CloudError
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.instance import OwnedInstance, Rest, Stage
from vk_provider.instances.launches import Launches, LaunchRules
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.offerings import OfferingBook
from vk_provider.instances.pool import Fit, Pool
from vk_provider.instances.poolstores import APART_S, NoPoolImages, PoolImages, PoolStores
from vk_provider.instances.standby import Standby
from vk_provider.ledger.span import to_nanos
from vk_provider.sizing.pool import PoolSpec, explain_from_pool, next_change_s, select_for_pool
from vk_provider.sizing.selection import Refusal, Selection

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 4
SILENT_S = 60.0
"""An instance that was ready, and whose agent has been silent for so long, is ready for nobody."""
SETTLE_S = 15.0
"""An instance of a stopped pool is stopped after it was idle for so long: its agent has rehearsed by then."""
LOOK_S = 60.0
"""A silent instance is noticed so late at most."""


OFFER_S = 15.0
"""A pod whose start has failed is launched for; if it still waits then, it is offered stopped ones again."""
_MEMBERS = (Stage.BOOTING, Stage.IDLE, Stage.STOPPED)


class GrantSigner(Protocol):
    """agentclient.grants.Grants."""

    def sign(self, instance_id: str, pod_uid: str) -> str: ...

    def is_genuine(self, grant: str, instance_id: str, pod_uid: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class PoolRules:
    """specs: the pools. grants: see agentclient.grants. configuration: digest of what goes into every instance beside a
    pool's own settings: machine image, user data. An instance of another one is replaced. images: see PoolImages."""

    grants: GrantSigner
    specs: tuple[PoolSpec, ...] = ()
    configuration: str = ""
    images: PoolImages = field(default_factory=NoPoolImages)
    boots_soon: bool = False


class Unclaimed(Protocol):
    """Of instances.supply.Supply."""

    is_settled: bool

    @property
    def unclaimed(self) -> Mapping[str, OwnedInstance]: ...

    def stock_up(self, owned: OwnedInstance) -> None:
        """A new instance, which is nobody's."""

    def end(self, owned: OwnedInstance, why: str) -> None: ...

    def offer_stopped(self, waits_s: float = 0.0) -> None:
        """To pods that wait for so long."""

    def known(self) -> Iterable[OwnedInstance]:
        """All that exist, whoever has them."""


class Stock:
    """See module docstring. `run` is a root task."""

    def __init__(
        self,
        pools: PoolRules,
        rules: LaunchRules,
        launches: Launches,
        supply: Unclaimed,
        offerings: OfferingBook,
        metrics: InstanceMetrics,
        standby: Standby,
    ) -> None:
        self._standby = standby
        self._rules, self._launches, self._supply = rules, launches, supply
        self._offerings, self._selector = offerings, offerings.selector
        self._metrics = metrics
        self._pools = {spec.name: self._build(spec, pools.configuration) for spec in pools.specs}
        self._silent_since: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}
        self._numbers = itertools.count()
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
        self._stores = PoolStores(pools.images, boots_soon=pools.boots_soon)
        if self._pools:
            pools.images.follow(self.wake)
        launches.on_slack = self.wake
        metrics.follow_pools(self._count_states, self._count_idle_cost)

    def _build(self, spec: PoolSpec, configuration: str) -> Pool:
        """The digest is the group's of its instances: of all that they are made of."""
        preferences = self._rules.preferences_of(spec.node)
        paths = self._rules.shared_host_paths.get(spec.node, ())
        selection = select_for_pool(spec, self._selector.offerings, preferences)
        asked = selection.asked if isinstance(selection, Selection) else ""
        made_of = repr(("pool", spec.node, paths, asked, configuration))
        return Pool(spec, preferences, paths, hashlib.sha256(made_of.encode()).hexdigest()[:20])

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, whose instance may be listed already."""
        return bool(self._tasks)

    # --- pods ----------------------------------------------------------------------------------------------------

    def take(self, demand: Demand) -> tuple[OwnedInstance, str] | None:
        """A ready instance that fits, and why it does: one that runs before one that is stopped, one with the pod's
        images before others, the cheapest of these. The pod counts as one that has asked."""
        pools = [pool for pool in self._pools.values() if pool.spec.node == demand.node]
        if not pools:
            return None
        with contained(f"the pools of pod {demand.namespace}/{demand.name}"):
            return self._take(demand, pools)
        return None

    def _take(self, demand: Demand, pools: Sequence[Pool]) -> tuple[OwnedInstance, str] | None:
        fits = Fit(self._selector, demand)
        found: list[tuple[bool, bool, float, float, str, OwnedInstance, Pool]] = []
        asked: Pool | None = None
        for pool in pools:
            ready = [owned for owned in self._members(pool) if owned.is_idle or self._standby.can_start(owned)]
            for owned in ready:
                offering = self._offering_of(owned)
                if offering is not None and fits.judge(pool, offering) and self._may_take(demand, owned, offering):
                    has_others = owned.image_store != demand.image_store
                    price = offering.compute_price(demand.steady_cpu_milli)
                    order = bool(owned.rest), has_others, price, owned.described.launch_time
                    found.append((*order, owned.instance_id, owned, pool))
            if asked is None and (ready or pool.count()):
                selection = self._select(pool, everything=True)
                asked = pool if isinstance(selection, Selection) and fits.judge(pool, selection.offering) else None
        if found:
            *_, owned, pool = min(found, key=lambda each: each[:5])
            pool.note_taken()
            if not owned.rest:
                self._metrics.pool_hits.labels(pool.spec.name).inc()
            return owned, self._explain(owned, demand)
        if asked is not None:
            asked.asked.append(time.monotonic())
            self._metrics.pool_misses.labels(asked.spec.name).inc()
            self.wake()
        return None

    def fits(self, owned: OwnedInstance, demand: Demand) -> str:
        """Why the pod may have an instance that is ready now; "" where it may not."""
        pool, offering = self._pool_of(owned), self._offering_of(owned)
        if pool is None or offering is None or pool.spec.node != demand.node:
            return ""
        with contained(f"the pools of pod {demand.namespace}/{demand.name}"):
            allowed = Fit(self._selector, demand).judge(pool, offering) and self._may_take(demand, owned, offering)
            return self._explain(owned, demand) if allowed else ""
        return ""

    def _may_take(self, demand: Demand, owned: OwnedInstance, offering: Offering) -> bool:
        """Within the quota of the pod's namespace: among all instances one that runs counts already. One that is
        stopped costs its disks alone, and takes no room that pods wait for."""
        if not self._stores.may_have(owned, demand):
            return False
        budget = self._launches.budget
        nanos = budget.price_of_owned(owned.instance_id, offering, demand.steady_cpu_milli)
        if not owned.rest:
            return budget.has_room(demand.namespace, nanos, is_counted=True)
        if self._launches.is_room_awaited(demand.namespace) or offering_key(offering) in self._launches.unavailable():
            return False
        disk_nanos = nanos - (to_nanos(offering.compute_price(demand.steady_cpu_milli)) or 0)
        return budget.has_room(demand.namespace, nanos, counted_nanos=disk_nanos)

    def _explain(self, owned: OwnedInstance, demand: Demand) -> str:
        offering = self._offering_of(owned)
        assert offering is not None
        return explain_from_pool(owned.pool, offering, demand.steady_cpu_milli, is_started=bool(owned.rest))

    def start(self, owned: OwnedInstance, demand: Demand) -> None:
        """For the pod that has taken it while it is stopped."""
        offering, budget = self._offering_of(owned), self._launches.budget
        assert offering is not None
        nanos = budget.price_of_owned(owned.instance_id, offering, demand.steady_cpu_milli)
        reservation = budget.reserve(demand.namespace, 1, nanos)
        self._standby.start(owned, demand, lambda: budget.release(reservation))

    def explain_started(self, owned: OwnedInstance, demand: Demand) -> str:
        """It boots for the pod that has taken it."""
        self._metrics.pool_hits.labels(owned.pool).inc()
        offering = self._offering_of(owned)
        if offering is None:
            return ""
        return explain_from_pool(owned.pool, offering, demand.steady_cpu_milli, is_started=True)

    def note_not_started(self, owned: OwnedInstance, problem: CloudError) -> None:
        self._metrics.pool_misses.labels(owned.pool).inc()
        offering = self._offering_of(owned)
        if offering is not None:
            self._launches.note_shortage(offering, problem)
        self.wake()

    # --- instances -----------------------------------------------------------------------------------------------

    def wants(self, owned: OwnedInstance) -> bool:
        """Whether an instance that has had no pod is of a pool as it is now."""
        return owned.is_for_anybody and self._pool_of(owned) is not None

    def kept(self) -> set[str]:
        """IDs of the instances within the sizes of the pools; those that are ready, and cheap, first."""
        kept: set[str] = set()
        for pool in self._pools.values():
            members = sorted(self._members(pool), key=self._rank)
            kept.update(owned.instance_id for owned in members[: pool.count()])
        return kept

    def _rank(self, owned: OwnedInstance) -> tuple[bool, float, float, str]:
        offering = self._offering_of(owned)
        price = offering.price_per_hour if offering is not None else float("inf")
        is_ready = owned.stage in (Stage.IDLE, Stage.STOPPED)
        return not (is_ready or owned.rest is Rest.STARTING), price, owned.described.launch_time, owned.instance_id

    def note_greeting(self, owned: OwnedInstance) -> None:
        """It is ready."""
        pool = self._pool_of(owned)
        if pool is not None:
            pool.backoff.reset()
        self.wake()

    def note_stopped(self, owned: OwnedInstance) -> None:
        """It is ready, and costs its disks alone."""
        pool = self._pool_of(owned)
        if pool is not None:
            pool.stop_backoff.reset()

    def note_not_stopped(self, owned: OwnedInstance, problem: CloudError) -> None:
        """It stays ready as it is, and is tried again later."""
        pool = self._pool_of(owned)
        if pool is not None and pool.stop_at <= time.monotonic():  # once for all of a call
            delay_s = pool.stop_backoff.next_delay_s()
            pool.stop_at = time.monotonic() + delay_s
            log.warning("instances of pool %s run on, next stop in %.0f s: %s", pool.spec.name, delay_s, problem)

    def note_failure(self, owned: OwnedInstance) -> None:
        """It did not boot."""
        pool = self._pool_of(owned)
        if pool is not None:
            self._hold(pool, owned.boot_failed)

    def _pool_of(self, owned: OwnedInstance) -> Pool | None:
        pool = self._pools.get(owned.pool)
        return pool if pool is not None and owned.group == pool.digest else None

    def _offering_of(self, owned: OwnedInstance) -> Offering | None:
        instance = owned.described
        return self._offerings.find_exact((instance.instance_type, instance.zone, instance.capacity_type))

    def _members(self, pool: Pool) -> Iterator[OwnedInstance]:
        """Its instances that are nobody's, and are ready or will be."""
        now = time.monotonic()
        for owned in self._supply.unclaimed.values():
            if owned.is_for_anybody and owned.stage in _MEMBERS and self._pool_of(owned) is pool:
                silent_s = now - self._silent_since.get(owned.instance_id, now)
                if silent_s < SILENT_S:
                    yield owned

    def _note_silent(self) -> None:
        now, silent = time.monotonic(), {}
        for instance_id, owned in self._supply.unclaimed.items():
            if owned.pool and not owned.rest and owned.link.ever_connected and owned.link.session is None:
                silent[instance_id] = self._silent_since.get(instance_id, now)
        self._silent_since = silent

    # --- filling up ----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            # One moment for all: what is not due yet as pools are filled up must be waited for, not taken for past.
            now, slack_s = time.monotonic(), self._launches.slack_in_s
            if self._supply.is_settled:
                self._note_silent()
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
        due = [LOOK_S, slack_s or self._launches.slack_in_s or LOOK_S]
        for pool in self._pools.values():
            if pool.resume_at > now:
                due.append(pool.resume_at - now)
            if (change_s := next_change_s(pool.spec, time.time())) is not None:
                due.append(change_s)
        due += [self._stop_due(owned, now) - now for owned in self._to_stop()]
        due += [due_s for pool in self._pools.values() if (due_s := self._find_unlike(pool, now)[1]) > 0]
        return max(0.0, min(due))

    def _to_stop(self) -> Iterator[OwnedInstance]:
        """Idle ones of stopped pools."""
        for owned in self._supply.unclaimed.values():
            pool = self._pool_of(owned)
            if pool is not None and pool.spec.is_stopped and owned.is_for_anybody and owned.is_idle:
                yield owned

    def _stop_due(self, owned: OwnedInstance, now: float) -> float:
        pool = self._pool_of(owned)
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
        pool = self._pool_of(owned)
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
        members = list(self._members(pool))
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
        for pool in self._pools.values():
            owned, due_s = self._find_unlike(pool, now)
            if owned is not None and due_s <= 0:
                pool.renew_at = now + APART_S
                log.info("instance %s of pool %s has other images than pods ask for", owned.instance_id, owned.pool)
                self._supply.end(owned, "outdated")

    def _fill_up(self, now: float) -> None:
        for pool in self._pools.values():
            missing = pool.count() - sum(1 for _ in self._members(pool)) - len(pool.calls)
            while missing > 0 and now >= pool.resume_at and len(self._tasks) < CALLS_AT_ONCE:
                if not self._launches.has_slack:
                    return
                selection = self._select(pool)
                if isinstance(selection, Refusal):
                    self._hold(pool, selection.message)
                    break
                had = [*pool.calls, *(owned.image_store for owned in self._members(pool))]
                store = self._stores.choose(had, pool.count())
                pool.calls.append(store)
                pool.taken_at = 0.0
                missing -= 1
                self._tasks.spawn(self._launch(pool, selection, store), f"launch for pool {pool.spec.name}")

    def _select(self, pool: Pool, *, everything: bool = False) -> Selection | Refusal:
        unavailable = frozenset() if everything else self._launches.unavailable()
        return select_for_pool(pool.spec, self._selector.offerings, pool.preferences, unavailable)

    async def _launch(self, pool: Pool, selection: Selection, store: str) -> None:
        group = Group(pool.spec.node, "", {}, selection, pool.paths, pool.digest, store)
        name = f"pool/{pool.spec.name}/{time.time_ns()}/{next(self._numbers)}"
        try:
            answer = await self._launches.launch_for_pool(group, pool.spec.name, name)
        finally:
            pool.calls.remove(store)
            self.wake()
        if answer is not None:
            self._settle(pool, answer)

    def _settle(self, pool: Pool, answer: LaunchAnswer) -> None:
        for instance in answer.instances:
            if not (instance.state.is_terminating or instance.state.has_stopped):
                self._supply.stock_up(OwnedInstance(instance))
        if not answer.instances and answer.failures:
            self._hold(pool, str(answer.failures[-1].error))

    def _hold(self, pool: Pool, problem: str) -> None:
        delay_s = pool.backoff.next_delay_s()
        pool.resume_at = time.monotonic() + delay_s
        log.warning("pool %s is not filled up, next try in %.0f s: %s", pool.spec.name, delay_s, problem)
        self.wake()

    # --- figures -------------------------------------------------------------------------------------------------

    def _count_states(self) -> Mapping[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {}
        for name, pool in self._pools.items():
            stages = [owned.stage for owned in self._members(pool)]
            counts[name, "wanted"] = pool.count()
            rests = [owned.rest for owned in self._members(pool)]
            counts[name, "ready"] = stages.count(Stage.IDLE)
            for rest in (Rest.STOPPING, Rest.STOPPED, Rest.STARTING):
                counts[name, str(rest)] = rests.count(rest)
            counts[name, "booting"] = stages.count(Stage.BOOTING) + len(pool.calls)
            counts[name, "assigned"] = 0
        for owned in list(self._supply.known()):
            if owned.pool in self._pools and owned.stage is Stage.ASSIGNED:
                counts[owned.pool, "assigned"] += 1
        return counts

    def _count_idle_cost(self) -> Mapping[tuple[str, ...], float]:
        """USD an hour, of outdated and surplus ones, too; without those that are stopped."""
        costs: dict[tuple[str, ...], float] = {(name,): 0.0 for name in self._pools}
        for owned in list(self._supply.unclaimed.values()):
            offering = self._offering_of(owned)
            if owned.pool and offering is not None and not owned.rest:
                costs[owned.pool,] = costs.get((owned.pool,), 0.0) + offering.price_per_hour
        return costs

    async def close(self) -> None:
        await self._tasks.close()
