"""Which instances are whose pool's. Nothing is remembered: an instance says by its tags what it was launched for, and a
pool of other settings, or of another machine image, is another pool to it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping

from vk_provider.cloud.base import Offering, OfferingKey
from vk_provider.instances.budget import Budget
from vk_provider.instances.instance import OwnedInstance, Rest, Stage
from vk_provider.instances.launches import LaunchRules
from vk_provider.instances.offerings import OfferingBook
from vk_provider.instances.pool import Pool
from vk_provider.instances.poolrules import PoolRules, Unclaimed
from vk_provider.ledger.span import NANOS
from vk_provider.sizing.pool import PoolSpec, select_for_pool
from vk_provider.sizing.selection import Refusal, Selection

SILENT_S = 60.0
"""An instance that was ready, and whose agent has been silent for so long, is ready for nobody."""
_MEMBERS = (Stage.BOOTING, Stage.IDLE, Stage.STOPPED)


class PoolMembers:
    """pools: by name. supply: has the instances."""

    def __init__(self, rules: PoolRules, launching: LaunchRules, supply: Unclaimed, offerings: OfferingBook) -> None:
        self._launching, self._supply = launching, supply
        self._offerings, self.selector = offerings, offerings.selector
        self.pools = {spec.name: self._build(spec, rules.configuration) for spec in rules.specs}
        self._silent_since: dict[str, float] = {}

    def _build(self, spec: PoolSpec, configuration: str) -> Pool:
        """The digest is the group's of its instances: of all that they are made of."""
        preferences = self._launching.preferences_of(spec.node)
        paths = self._launching.shared_host_paths.get(spec.node, ())
        selection = select_for_pool(spec, self.selector.offerings, preferences)
        asked = selection.asked if isinstance(selection, Selection) else ""
        made_of = repr(("pool", spec.node, paths, asked, configuration))
        return Pool(spec, preferences, paths, hashlib.sha256(made_of.encode()).hexdigest()[:20])

    def select(self, pool: Pool, unavailable: frozenset[OfferingKey] = frozenset()) -> Selection | Refusal:
        """What another instance of the pool would be."""
        return select_for_pool(pool.spec, self.selector.offerings, pool.preferences, unavailable)

    def pool_of(self, owned: OwnedInstance) -> Pool | None:
        """As it is now."""
        pool = self.pools.get(owned.pool)
        return pool if pool is not None and owned.group == pool.digest else None

    def offering_of(self, owned: OwnedInstance) -> Offering | None:
        instance = owned.described
        return self._offerings.find_exact((instance.instance_type, instance.zone, instance.capacity_type))

    def of(self, pool: Pool) -> Iterator[OwnedInstance]:
        """Its instances that are nobody's, and are ready or will be."""
        now = time.monotonic()
        for owned in self._supply.unclaimed.values():
            if owned.is_for_anybody and owned.stage in _MEMBERS and self.pool_of(owned) is pool:
                silent_s = now - self._silent_since.get(owned.instance_id, now)
                if silent_s < SILENT_S:
                    yield owned

    def note_silent(self) -> None:
        """Look who is silent now."""
        now, silent = time.monotonic(), {}
        for instance_id, owned in self._supply.unclaimed.items():
            if owned.pool and not owned.rest and owned.link.ever_connected and owned.link.session is None:
                silent[instance_id] = self._silent_since.get(instance_id, now)
        self._silent_since = silent

    def kept(self) -> set[str]:
        """IDs of the instances within the sizes of the pools; those that are ready, and cheap, first."""
        kept: set[str] = set()
        for pool in self.pools.values():
            members = sorted(self.of(pool), key=self._rank)
            kept.update(owned.instance_id for owned in members[: pool.count()])
        return kept

    def _rank(self, owned: OwnedInstance) -> tuple[bool, float, float, str]:
        offering = self.offering_of(owned)
        price = offering.price_per_hour if offering is not None else float("inf")
        is_ready = owned.stage in (Stage.IDLE, Stage.STOPPED)
        return not (is_ready or owned.rest is Rest.STARTING), price, owned.described.launch_time, owned.instance_id

    # --- figures -------------------------------------------------------------------------------------------------

    def count_states(self) -> Mapping[tuple[str, ...], float]:
        """(pool, state) -> instances."""
        counts: dict[tuple[str, ...], float] = {}
        for name, pool in self.pools.items():
            members = list(self.of(pool))
            stages, rests = [owned.stage for owned in members], [owned.rest for owned in members]
            counts[name, "wanted"] = pool.count()
            counts[name, "ready"] = stages.count(Stage.IDLE)
            for rest in (Rest.STOPPING, Rest.STOPPED, Rest.STARTING):
                counts[name, str(rest)] = rests.count(rest)
            counts[name, "booting"] = stages.count(Stage.BOOTING) + len(pool.calls)
            counts[name, "assigned"] = 0
        for owned in list(self._supply.known()):
            if owned.pool in self.pools and owned.stage is Stage.ASSIGNED:
                counts[owned.pool, "assigned"] += 1
        return counts

    def count_idle_cost(self, budget: Budget) -> Mapping[tuple[str, ...], float]:
        """(pool,) -> USD an hour with disks, of outdated and surplus ones, too; without those that are stopped."""
        costs: dict[tuple[str, ...], float] = {(name,): 0.0 for name in self.pools}
        for owned in list(self._supply.unclaimed.values()):
            offering = self.offering_of(owned)
            if owned.pool and offering is not None and not owned.rest:
                nanos = budget.price_of_owned(owned.instance_id, offering)
                costs[owned.pool,] = costs.get((owned.pool,), 0.0) + nanos / NANOS
        return costs
