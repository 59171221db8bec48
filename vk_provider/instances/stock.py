"""Keeps instances of pools ready: fills the pools up, gives a pod the cheapest one that fits, ends outdated ones.

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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import LaunchAnswer, Offering
from vk_provider.instances.budget import price_of
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.instance import OwnedInstance, Stage
from vk_provider.instances.launches import Launches, LaunchRules
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.offerings import OfferingBook
from vk_provider.sizing.pool import PoolSpec, compute_count, explain_from_pool, next_change_s, select_for_pool
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 4
FOLLOWED_S = 300.0
"""How long a pod that asked for an instance counts for the size of its pool."""
SILENT_S = 60.0
"""An instance that was ready, and whose agent has been silent for so long, is ready for nobody."""
QUIET_S, QUIET_LIMIT_S = 2.0, 10.0
"""Pause after a pod has taken an instance, before another is launched, while pods follow each other; and its limit.
What starts has the calls to itself, and on the local cloud the machine."""
LOOK_S = 60.0
"""A silent instance is noticed so late at most."""


class GrantSigner(Protocol):
    """agentclient.grants.Grants."""

    def sign(self, instance_id: str, pod_uid: str) -> str: ...

    def is_genuine(self, grant: str, instance_id: str, pod_uid: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class PoolRules:
    """specs: the pools. grants: see agentclient.grants. configuration: digest of what goes into every instance beside a
    pool's own settings: machine image, user data. An instance of another one is replaced."""

    grants: GrantSigner
    specs: tuple[PoolSpec, ...] = ()
    configuration: str = ""


class Unclaimed(Protocol):
    """Of instances.supply.Supply."""

    is_settled: bool

    @property
    def unclaimed(self) -> Mapping[str, OwnedInstance]: ...

    def stock_up(self, owned: OwnedInstance) -> None:
        """A new instance, which is nobody's."""

    def end(self, owned: OwnedInstance, why: str) -> None: ...

    def known(self) -> Iterable[OwnedInstance]:
        """All that exist, whoever has them."""


@dataclass(slots=True, eq=False)
class Pool:
    """asked: when pods asked for an instance. calls: under way. taken_at: when the first was taken since the last call,
    0.0 for none. resume_at: no call before. Times are time.monotonic()."""

    spec: PoolSpec
    preferences: Preferences
    paths: tuple[str, ...]
    digest: str
    asked: deque[float] = field(default_factory=deque)
    calls: int = 0
    taken_at: float = 0.0
    resume_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(5.0, 300.0))

    def note_taken(self) -> None:
        now = time.monotonic()
        self.asked.append(now)
        self.taken_at = self.taken_at or now
        self.resume_at = max(self.resume_at, min(now + QUIET_S, self.taken_at + QUIET_LIMIT_S))

    def count(self) -> int:
        since = time.monotonic() - FOLLOWED_S
        while self.asked and self.asked[0] < since:
            self.asked.popleft()
        return compute_count(self.spec, time.time(), len(self.asked))


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
    ) -> None:
        self._rules, self._launches, self._supply = rules, launches, supply
        self._offerings, self._selector = offerings, offerings.selector
        self._metrics = metrics
        self._pools = {spec.name: self._build(spec, pools.configuration) for spec in pools.specs}
        self._silent_since: dict[str, float] = {}
        self._numbers = itertools.count()
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
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
        """The cheapest ready instance that fits, and why it does; the pod counts as one that has asked."""
        pools = [pool for pool in self._pools.values() if pool.spec.node == demand.node]
        if not pools:
            return None
        with contained(f"the pools of pod {demand.namespace}/{demand.name}"):
            return self._take(demand, pools)
        return None

    def _take(self, demand: Demand, pools: Sequence[Pool]) -> tuple[OwnedInstance, str] | None:
        fits = _Fit(self._selector, demand)
        found: list[tuple[float, float, str, OwnedInstance, Pool]] = []
        asked: Pool | None = None
        for pool in pools:
            ready = [owned for owned in self._members(pool) if owned.stage is Stage.IDLE]
            for owned in ready:
                offering = self._offering_of(owned)
                if offering is not None and fits.judge(pool, offering) and self._may_spend(demand, offering):
                    order = offering.price_per_hour, owned.described.launch_time, owned.instance_id
                    found.append((*order, owned, pool))
            if asked is None and (ready or pool.count()):
                selection = self._select(pool, everything=True)
                asked = pool if isinstance(selection, Selection) and fits.judge(pool, selection.offering) else None
        if found:
            *_, owned, pool = min(found, key=lambda each: each[:3])
            pool.note_taken()
            self._metrics.pool_hits.labels(pool.spec.name).inc()
            return owned, self._explain(owned)
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
            allowed = _Fit(self._selector, demand).judge(pool, offering) and self._may_spend(demand, offering)
            return self._explain(owned) if allowed else ""
        return ""

    def _may_spend(self, demand: Demand, offering: Offering) -> bool:
        """Within the quota of the pod's namespace: among all instances it counts already."""
        return self._launches.budget.has_room(demand.namespace, price_of(offering), is_counted=True)

    def _explain(self, owned: OwnedInstance) -> str:
        offering = self._offering_of(owned)
        assert offering is not None
        return explain_from_pool(owned.pool, offering)

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
        return owned.stage is not Stage.IDLE, price, owned.described.launch_time, owned.instance_id

    def note_greeting(self, owned: OwnedInstance) -> None:
        """It is ready."""
        pool = self._pool_of(owned)
        if pool is not None:
            pool.backoff.reset()
        self.wake()

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
            if owned.is_for_anybody and owned.stage in (Stage.BOOTING, Stage.IDLE) and self._pool_of(owned) is pool:
                silent_s = now - self._silent_since.get(owned.instance_id, now)
                if silent_s < SILENT_S:
                    yield owned

    def _note_silent(self) -> None:
        now, silent = time.monotonic(), {}
        for instance_id, owned in self._supply.unclaimed.items():
            if owned.pool and owned.link.ever_connected and owned.link.session is None:
                silent[instance_id] = self._silent_since.get(instance_id, now)
        self._silent_since = silent

    # --- filling up ----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            if self._supply.is_settled:
                self._note_silent()
                self._end_outdated()
                self._fill_up()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _pause_s(self) -> float:
        now, due = time.monotonic(), [LOOK_S]
        for pool in self._pools.values():
            if pool.resume_at > now:
                due.append(pool.resume_at - now)
            if (change_s := next_change_s(pool.spec, time.time())) is not None:
                due.append(change_s)
        return min(*due, self._launches.slack_in_s or LOOK_S)

    def _end_outdated(self) -> None:
        for owned in list(self._supply.unclaimed.values()):
            if owned.is_for_anybody and owned.stage is Stage.IDLE and not self.wants(owned):
                log.info("instance %s of pool %s is of another configuration", owned.instance_id, owned.pool)
                self._supply.end(owned, "outdated")

    def _fill_up(self) -> None:
        now = time.monotonic()
        for pool in self._pools.values():
            missing = pool.count() - sum(1 for _ in self._members(pool)) - pool.calls
            while missing > 0 and now >= pool.resume_at and len(self._tasks) < CALLS_AT_ONCE:
                if not self._launches.has_slack:
                    return
                selection = self._select(pool)
                if isinstance(selection, Refusal):
                    self._hold(pool, selection.message)
                    break
                pool.calls, pool.taken_at = pool.calls + 1, 0.0
                missing -= 1
                self._tasks.spawn(self._launch(pool, selection), f"launch for pool {pool.spec.name}")

    def _select(self, pool: Pool, *, everything: bool = False) -> Selection | Refusal:
        unavailable = frozenset() if everything else self._launches.unavailable()
        return select_for_pool(pool.spec, self._selector.offerings, pool.preferences, unavailable)

    async def _launch(self, pool: Pool, selection: Selection) -> None:
        group = Group(pool.spec.node, "", {}, selection, pool.paths, pool.digest)
        name = f"pool/{pool.spec.name}/{time.time_ns()}/{next(self._numbers)}"
        try:
            answer = await self._launches.launch_for_pool(group, pool.spec.name, name)
        finally:
            pool.calls -= 1
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
            counts[name, "ready"] = stages.count(Stage.IDLE)
            counts[name, "booting"] = stages.count(Stage.BOOTING) + pool.calls
            counts[name, "assigned"] = 0
        for owned in list(self._supply.known()):
            if owned.pool in self._pools and owned.stage is Stage.ASSIGNED:
                counts[owned.pool, "assigned"] += 1
        return counts

    def _count_idle_cost(self) -> Mapping[tuple[str, ...], float]:
        """USD an hour, of outdated and surplus ones, too."""
        costs: dict[tuple[str, ...], float] = {(name,): 0.0 for name in self._pools}
        for owned in list(self._supply.unclaimed.values()):
            offering = self._offering_of(owned)
            if owned.pool and offering is not None:
                costs[owned.pool,] = costs.get((owned.pool,), 0.0) + offering.price_per_hour
        return costs

    async def close(self) -> None:
        await self._tasks.close()


class _Fit:
    """Which offerings a pod may take from which pool; each is judged once."""

    def __init__(self, selector: OfferingSelector, demand: Demand) -> None:
        self._selector, self._demand = selector, demand
        self._known: dict[tuple[str, Offering], bool] = {}

    def judge(self, pool: Pool, offering: Offering) -> bool:
        key = pool.spec.name, offering
        if key not in self._known:
            self._known[key] = self._judge(pool, offering)
        return self._known[key]

    def _judge(self, pool: Pool, offering: Offering) -> bool:
        pod, spec = self._demand.pod, pool.spec
        choice = self._selector.select(pod, frozenset(), pool.preferences)
        if isinstance(choice, Refusal) or offering.price_per_hour > spec.price_factor * choice.offering.price_per_hour:
            return False
        return self._selector.fits(pod, offering, spec.disk_bytes, pool.preferences)
