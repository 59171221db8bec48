"""What pods take of pools: the cheapest ready instance that fits. One that is stopped is started for the pod (standby).
What there is to be taken is `filling`'s business."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vk_provider.aiokit.guard import contained
from vk_provider.cloud.base import Offering, offering_key
from vk_provider.errors import CloudError
from vk_provider.instances.demand import Demand
from vk_provider.instances.filling import PoolFilling
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.launches import Launches
from vk_provider.instances.members import PoolMembers
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.pool import Fit, Pool
from vk_provider.instances.poolstores import PoolStores
from vk_provider.instances.standby import Standby
from vk_provider.ledger.span import to_nanos
from vk_provider.sizing.pool import explain_from_pool
from vk_provider.sizing.selection import Selection


class Stock:
    """See module docstring. filling: is told when a pool should look again."""

    def __init__(
        self,
        members: PoolMembers,
        stores: PoolStores,
        launches: Launches,
        metrics: InstanceMetrics,
        standby: Standby,
        filling: PoolFilling,
    ) -> None:
        self._members, self._stores, self._launches = members, stores, launches
        self._metrics, self._standby, self._filling = metrics, standby, filling
        metrics.follow_pools(members.count_states, lambda: members.count_idle_cost(launches.budget))

    def take(self, demand: Demand) -> tuple[OwnedInstance, str] | None:
        """A ready instance that fits, and why it does: one that runs before one that is stopped, one with the pod's
        images before others, the cheapest of these. The pod counts as one that has asked."""
        pools = [pool for pool in self._members.pools.values() if pool.spec.node == demand.node]
        if not pools:
            return None
        with contained(f"the pools of pod {demand.namespace}/{demand.name}"):
            return self._take(demand, pools)
        return None

    def _take(self, demand: Demand, pools: Sequence[Pool]) -> tuple[OwnedInstance, str] | None:
        fits = Fit(self._members.selector, demand)
        found: list[tuple[bool, bool, float, float, str, OwnedInstance, Pool]] = []
        asked: Pool | None = None
        for pool in pools:
            ready = [owned for owned in self._members.of(pool) if owned.is_idle or self._standby.can_start(owned)]
            for owned in ready:
                offering = self._members.offering_of(owned)
                if offering is not None and fits.judge(pool, offering) and self._may_take(demand, owned, offering):
                    has_others = owned.image_store != demand.image_store
                    price = offering.compute_price(demand.steady_cpu_milli)
                    order = bool(owned.rest), has_others, price, owned.described.launch_time
                    found.append((*order, owned.instance_id, owned, pool))
            if asked is None and (ready or pool.count()):
                selection = self._members.select(pool)
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
            self._filling.wake()
        return None

    def fits(self, owned: OwnedInstance, demand: Demand) -> str:
        """Why the pod may have an instance that is ready now; "" where it may not."""
        pool, offering = self._members.pool_of(owned), self._members.offering_of(owned)
        if pool is None or offering is None or pool.spec.node != demand.node:
            return ""
        with contained(f"the pools of pod {demand.namespace}/{demand.name}"):
            allowed = Fit(self._members.selector, demand).judge(pool, offering)
            return self._explain(owned, demand) if allowed and self._may_take(demand, owned, offering) else ""
        return ""

    def _may_take(self, demand: Demand, owned: OwnedInstance, offering: Offering) -> bool:
        """Within the quota of the pod's namespace: among all instances one that runs counts already. One that is
        stopped costs its disks alone, and takes no room that pods wait for."""
        if not self._stores.may_have(owned, demand):
            return False
        budget = self._launches.budget
        nanos, disk_nanos = self._price(owned, offering, demand)
        if not owned.rest:
            return budget.has_room(demand.namespace, nanos, is_counted=True)
        if self._launches.is_room_awaited(demand.namespace) or offering_key(offering) in self._launches.unavailable():
            return False
        return budget.has_room(demand.namespace, nanos, counted_nanos=disk_nanos)

    def _price(self, owned: OwnedInstance, offering: Offering, demand: Demand) -> tuple[int, int]:
        """Nano-USD an hour for the pod with its disks, and of these."""
        nanos = self._launches.budget.price_of_owned(owned.instance_id, offering, demand.steady_cpu_milli)
        return nanos, nanos - (to_nanos(offering.compute_price(demand.steady_cpu_milli)) or 0)

    def _explain(self, owned: OwnedInstance, demand: Demand) -> str:
        offering = self._members.offering_of(owned)
        assert offering is not None
        return explain_from_pool(owned.pool, offering, demand.steady_cpu_milli, is_started=bool(owned.rest))

    # --- stopped ones --------------------------------------------------------------------------------------------

    def start(self, owned: OwnedInstance, demand: Demand) -> None:
        """For the pod that has taken it while it is stopped: its disks are counted already, as nobody's."""
        offering, budget = self._members.offering_of(owned), self._launches.budget
        assert offering is not None
        reservation = budget.reserve(demand.namespace, 1, *self._price(owned, offering, demand))
        self._standby.start(owned, demand, lambda: budget.release(reservation))

    def explain_started(self, owned: OwnedInstance, demand: Demand) -> str:
        """It boots for the pod that has taken it."""
        self._metrics.pool_hits.labels(owned.pool).inc()
        offering = self._members.offering_of(owned)
        if offering is None:
            return ""
        return explain_from_pool(owned.pool, offering, demand.steady_cpu_milli, is_started=True)

    def note_not_started(self, owned: OwnedInstance, problem: CloudError) -> None:
        self._metrics.pool_misses.labels(owned.pool).inc()
        offering = self._members.offering_of(owned)
        if offering is not None:
            self._launches.note_shortage(offering, problem)
        self._filling.wake()

    # --- instances -----------------------------------------------------------------------------------------------

    def wants(self, owned: OwnedInstance) -> bool:
        """Whether an instance that has had no pod is of a pool as it is now."""
        return owned.is_for_anybody and self._members.pool_of(owned) is not None

    def kept(self) -> set[str]:
        """See PoolMembers.kept."""
        return self._members.kept()
