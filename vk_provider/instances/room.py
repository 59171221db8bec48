"""Puts the parts of the room together, and is what `pods` sees of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.agentclient.base import AgentConnector
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import (
    TAG_DISKS,
    TAG_NODE,
    Cloud,
    Instance,
    InstanceRuntime,
    Notice,
    Offering,
    OfferingKey,
)
from vk_provider.cloud.disks import Disks, read_disks
from vk_provider.cloud.tags import read_steady_cpu
from vk_provider.errors import CloudError
from vk_provider.instances.demand import PodSide
from vk_provider.instances.ends import Ends, OnStuck
from vk_provider.instances.filling import PoolFilling
from vk_provider.instances.groups import LaunchGroups
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.interruptions import Interruptions
from vk_provider.instances.launches import Launches, LaunchRules
from vk_provider.instances.links import InstanceLinks
from vk_provider.instances.members import PoolMembers
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.offerings import OfferingBook
from vk_provider.instances.poolrules import PoolRules
from vk_provider.instances.poolstores import PoolStores
from vk_provider.instances.standby import Standby
from vk_provider.instances.stock import Stock
from vk_provider.instances.supply import Supply
from vk_provider.instances.table import InstanceTable
from vk_provider.instances.tagging import Tagging
from vk_provider.instances.waiting import WaitingDemands
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.span import RunTerms
from vk_provider.sizing.need import compute_allocatable
from vk_provider.wire.session import UpMessage

READERS_LIMIT_S = 5.0
STARTING_S = 120.0
"""An instance that has not answered for so long holds up no other's tags."""
MAX_CPU_MILLI = 1_000_000
"""Capacity assumed for an instance whose offering is not in the catalog any more."""
MAX_MEMORY_BYTES = 64 << 40


@dataclass(frozen=True, slots=True)
class Doors:
    """The cloud with what it offers, and the way to the agents of its instances. runtime: of new instances; ability:
    what the backend says of itself."""

    cloud: Cloud
    offerings: Sequence[Offering]
    runtime: InstanceRuntime
    connector: AgentConnector
    ability: CloudAbility = CloudAbility()


class Instances:
    """Our instances. `listen` before anything else: `pods` is told what happens."""

    def __init__(
        self, doors: Doors, rules: LaunchRules, pools: PoolRules, metrics: InstanceMetrics, boot_timeout_s: float
    ) -> None:
        cloud = doors.cloud
        self.cloud, self.runtime = cloud, doors.runtime
        self.metrics = metrics
        self._connector = doors.connector
        self._rules = rules
        self._offerings_ttl_s = doors.ability.offerings_ttl_s
        self.offerings = OfferingBook(doors.offerings)
        terms = RunTerms(self.burst_price_of, doors.ability.least_run_s)
        self.meter = Meter(self.price_of, disk_price_of=self.disk_price_of, terms=terms)
        self.shortages = self.offerings.shortages
        self.table = InstanceTable(
            cloud, metrics, self.meter, lambda owned, notice: self.interruptions.take(owned, notice)
        )
        self.ends = Ends(cloud, metrics, self.meter)
        self.ends.on_let_go = self._let_go
        self.table.on_listing = self._on_listing
        self._grants = pools.grants
        self.waiting = WaitingDemands(
            LaunchGroups(rules.shared_host_paths), self.offerings.selector, self.shortages, rules.preferences_of
        )
        self.launches = Launches(cloud, self.table, self.waiting, self.shortages, rules, metrics)
        self.tagging = Tagging(cloud, self._is_busy, self._is_starting)
        self.tagging.on_marked = self._on_marked
        self.standby = Standby(cloud, self.table, rules.gather_s)
        self.supply = Supply(self.table, self.launches, self.ends, self.tagging, pools.grants, self.standby)
        members = PoolMembers(pools, rules, self.supply, self.offerings)
        stores = PoolStores(pools.images, boots_soon=pools.boots_soon)
        self.filling = self.supply.filling = PoolFilling(members, stores, self.launches, self.supply, self.standby)
        self.stock = self.supply.stock = Stock(members, stores, self.launches, metrics, self.standby, self.filling)
        self.interruptions = Interruptions(self.supply, self.offerings, metrics)
        self.links = InstanceLinks(doors.connector, self.table.look, _Dispatcher(self), boot_timeout_s)
        self.supply.links = self.standby.links = self.links
        self.pods: PodSide
        metrics.follow(self._count_stages, self._count_sessions, lambda: len(self.ends.stuck))
        metrics.follow_budget(self.launches.budget.limits, lambda: len(self.launches.allotment.held))
        metrics.follow_shortages(self.shortages.current)

    def listen(self, pods: PodSide) -> None:
        self.pods = self.supply.pods = self.waiting.pods = self.interruptions.pods = pods

    async def run(self) -> None:
        """Root task: follows the cloud's notices."""
        await self.table.run()

    async def run_offerings(self) -> None:
        """Root task: follows what the cloud offers, and at what price."""
        await self.offerings.run(self.cloud, self._offerings_ttl_s)

    # --- what an instance has ------------------------------------------------------------------------------------

    def allocatable_of(self, instance: Instance) -> dict[str, str]:
        """Allocatable resources of an instance, also of one that an earlier process launched."""
        offering = self.offerings.find(instance.instance_type)
        preferences = self._rules.preferences_of(instance.tags.get(TAG_NODE, ""))
        return compute_allocatable(offering, preferences) if offering is not None else {}

    def capacity_of(self, instance: Instance) -> tuple[int, int]:
        """(millicores, bytes of memory) of an instance, which limit the counters that its agent may report."""
        offering = self.offerings.find(instance.instance_type)
        return (
            (offering.cpu_milli, offering.memory_bytes) if offering is not None else (MAX_CPU_MILLI, MAX_MEMORY_BYTES)
        )

    def price_of(self, instance: Instance) -> float | None:
        """USD an hour without its disks, with what its pod is expected to use of CPU, as far as its tags say it; None
        when its offering is not in the catalog any more."""
        offering = self.offerings.find_exact((instance.instance_type, instance.zone, instance.capacity_type))
        return offering.compute_price(read_steady_cpu(instance.tags)) if offering is not None else None

    def burst_price_of(self, key: OfferingKey, cpu_milli: int) -> float:
        """The part of its price that is for CPU above the baseline of a burstable type."""
        offering = self.offerings.find_exact(key)
        return offering.compute_price(cpu_milli) - offering.price_per_hour if offering is not None else 0.0

    def disks_of(self, instance: Instance) -> Disks | None:
        """None for one of an earlier version, whose tags do not say it."""
        offering = self.offerings.find(instance.instance_type)
        return read_disks(instance.tags.get(TAG_DISKS, ""), offering.traits.store_bytes if offering is not None else 0)

    def disk_price_of(self, instance: Instance) -> float | None:
        """USD an hour of its network disks, also while it is stopped; None when they are not known."""
        disks, offering = self.disks_of(instance), self.offerings.find(instance.instance_type)
        if disks is None or offering is None:
            return None
        return disks.compute_price(offering.traits)

    def sign_grant(self, owned: OwnedInstance, uid: str) -> str:
        """What its agent shows later to prove that it was given the pod."""
        return self._grants.sign(owned.instance_id, uid)

    # --- ends ----------------------------------------------------------------------------------------------------

    async def end(self, owned: OwnedInstance, why: str, on_stuck: OnStuck = lambda message: None) -> bool:
        """Readers of its logs first; then one try to terminate it. Whether the cloud accepted it; if not, it is tried
        again in the background."""
        self.ends.mark(owned)
        self.links.close(owned)
        await self._connector.drain(owned.instance_id, READERS_LIMIT_S)
        accepted = await self.ends.end(owned.instance_id, why, on_stuck)
        self._forget(owned)
        return accepted

    async def end_orphan(self, instance_id: str) -> bool:
        owned = self.table.owned.get(instance_id)
        if owned is None:
            return await self.ends.end(instance_id, "orphan")
        self.supply.settle(owned)
        return await self.end(owned, "orphan")

    def forget_lost(self, owned: OwnedInstance) -> None:
        """It is gone by itself: there is nothing to terminate."""
        self.links.close(owned)
        self._forget(owned)

    def _let_go(self, owned: OwnedInstance) -> None:
        self.links.close(owned)
        self._forget(owned)

    def _forget(self, owned: OwnedInstance) -> None:
        self.interruptions.forget(owned)
        self._connector.forget(owned.instance_id)
        self.table.forget(owned)

    # --- notices and figures -------------------------------------------------------------------------------------

    def _on_marked(self, owned: OwnedInstance, problem: CloudError | None) -> None:
        if problem is None:
            self.pods.on_marked(owned)
        else:
            text = f"instance {owned.instance_id} is not marked as taken yet, will try again: {problem}"
            self.pods.on_trouble(owned.pod_uid, "Warning", eventreasons.FAILED_LAUNCH, text)

    def _on_listing(self) -> None:
        self.ends.verify(self.table.listed)
        self.supply.look()

    def _on_notice(self, owned: OwnedInstance, notice: Notice) -> None:
        self.interruptions.take(owned, notice)

    def _is_busy(self) -> bool:
        return self.launches.is_busy or bool(self.ends.pending)

    def _is_starting(self) -> bool:
        """Whether a pod's instance boots that may soon answer."""
        since = time.time() - STARTING_S
        return any(
            owned.pod_uid and not owned.has_booted and owned.is_live and owned.described.launch_time > since
            for owned in self.table.owned.values()
        )

    def _count_stages(self) -> Mapping[str, int]:
        return Counter(str(owned.stage) for owned in list(self.table.owned.values()))

    def _count_sessions(self) -> int:
        return sum(owned.link.session is not None for owned in list(self.table.owned.values()))

    async def close(self) -> None:
        """Cancel everything. Instances keep running."""
        self.interruptions.close()
        await self.supply.close()
        await self.offerings.close()
        await self.filling.close()
        await self.launches.close()
        await self.links.close_all(self.table.owned.values())
        await self.tagging.close()
        await self.table.close()
        await self.ends.close()


class _Dispatcher:
    """links.LinkListener: greetings go to the supply, the rest to the pod that has the instance."""

    def __init__(self, room: Instances) -> None:
        self._room = room

    def on_connected(self, owned: OwnedInstance) -> None:
        if owned.pod_uid:
            self._room.pods.on_connected(owned)

    def on_message(self, owned: OwnedInstance, message: UpMessage) -> None:
        if message["type"] == "hello":
            before = owned.pod_uid
            if memory_bytes := message.get("memoryBytes"):
                self._room.offerings.learn(owned.described.instance_type, memory_bytes)
            self._room.supply.greeted(owned, message["podUID"], message.get("grant", ""))
            if owned.pod_uid and not before:
                self._room.pods.on_connected(owned)
        elif message["type"] == "notice":
            self._room.interruptions.take_word(owned, message)
            return
        if owned.pod_uid:
            self._room.pods.on_message(owned, message)

    def on_disconnected(self, owned: OwnedInstance) -> None:
        if not owned.pod_uid:
            self._room.supply.disconnected(owned)
        self._room.pods.on_disconnected(owned)

    def on_begun_anew(self, owned: OwnedInstance) -> None:
        self._room.interruptions.lift(owned)

    def on_violation(self, owned: OwnedInstance, message: str) -> None:
        self._room.metrics.violations.inc()
        if owned.pod_uid:
            self._room.pods.on_violation(owned, message)

    def on_fate(self, owned: OwnedInstance) -> None:
        if owned.pod_uid:
            self._room.pods.on_fate(owned)
        elif owned.lost or owned.boot_failed:
            self._room.supply.on_dead(owned)
