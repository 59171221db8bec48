"""Who gets which instance: one that is idle and fits, or one of the next launch of the group.

Who knows which pod an instance serves? The agent first, by its greeting; then the pod's status in the API server, which
names the instance's addresses; then tags. The last two are `pods.adoption`'s, once after a start; the greeting is heard
here, with each session. A pod's owner may control the agent, so its word counts only with what it cannot forge: the
grant that came with the pod, the tags, or the pod's status. Without one, an agent that names a waiting pod loses its
instance, and the pod is launched for once that is ended.

An instance that has had a pod is nobody else's again. Of those that this process has sent a pod to, it knows that. Of
others, an agent may say that they are empty: so they are given to pods of the group of their launch alone, who all read
the same (groups), and one of a pool is marked by tags as taken before anything of its pod is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from vk_provider import eventreasons
from vk_provider.cloud.base import TAG_POD_UID, InstanceState
from vk_provider.errors import CloudError
from vk_provider.instances.demand import Claim, Demand, Group, PodSide
from vk_provider.instances.ends import Ends
from vk_provider.instances.filling import PoolFilling
from vk_provider.instances.inherited import InheritedDemands
from vk_provider.instances.instance import OwnedInstance, Stage
from vk_provider.instances.launches import Launches
from vk_provider.instances.links import InstanceLinks
from vk_provider.instances.poolrules import GrantSigner
from vk_provider.instances.request import LaunchCall
from vk_provider.instances.standby import Standby
from vk_provider.instances.stock import Stock
from vk_provider.instances.table import InstanceTable
from vk_provider.instances.tagging import Tagging
from vk_provider.instances.unclaimed import UnclaimedInstances
from vk_provider.ledger.span import owner_of_pod

log = logging.getLogger(__name__)

_RESTING = (InstanceState.STOPPING, InstanceState.STOPPED)


class Supply:
    """See module docstring.

    on_heard:   called when what `may_serve` says may have changed
    is_settled: False after a start until the cloud must list what an earlier process has ended: an instance that still
                greets may be shutting down, and is given to nobody before
    """

    def __init__(
        self,
        table: InstanceTable,
        launches: Launches,
        ends: Ends,
        tagging: Tagging,
        grants: GrantSigner,
        standby: Standby,
    ) -> None:
        self._table = table
        self._launches = launches
        self._waiting = launches.waiting
        self._ends = ends
        self._tagging = tagging
        self._meter = table.meter
        self._grants = grants
        self._standby = standby
        standby.side = self
        self._unclaimed = UnclaimedInstances(lambda: self.filling.wake(), self._on_resolved)
        self._inherited = InheritedDemands(self._unclaimed, ends, self.acquire, lambda: self.on_heard())
        self.is_settled = True
        self.on_heard: Callable[[], None] = lambda: None
        self.links: InstanceLinks
        self.stock: Stock
        self.filling: PoolFilling
        self.pods: PodSide
        launches.on_launched = self._take_launched
        launches.spare = self._unclaimed.count_expected
        launches.on_uncovered = self._offer_idle

    # --- demands -------------------------------------------------------------------------------------------------

    def acquire(self, demand: Demand) -> None:
        """The pod waits until it is assigned an instance, or refused (demand.PodSide)."""
        if self._standby.is_starting_for(demand.uid):
            return
        if self._inherited.hold(demand):
            return
        self._waiting.join(demand)
        if not self.is_settled:
            return
        if self.unclaimed and demand.group is not None:
            idle = self._unclaimed.find_idle(demand.group.digest)
            if idle is not None:
                self._assign(idle, demand, self._launches.explain(demand.group, idle.described))
                return
        found = self.stock.take(demand)
        if found is None:
            return
        owned, message = found
        if owned.rest:
            self._waiting.leave(demand.uid)
            self.stock.start(owned, demand)
        else:
            self._assign(owned, demand, message)

    def withdraw(self, uid: str) -> None:
        """The pod needs no instance any more."""
        self._standby.withdraw(uid)
        self._inherited.withdraw(uid)
        self._waiting.leave(uid)

    def may_serve(self, uid: str, node: str, namespace: str) -> bool:
        """Whether an instance that has not spoken yet may have the pod since an earlier process."""
        return self._inherited.may_serve(uid, node, namespace)

    # --- instances -----------------------------------------------------------------------------------------------

    @property
    def unclaimed(self) -> Mapping[str, OwnedInstance]:
        """Those that no pod has, by ID."""
        return self._unclaimed.by_id

    def _take_launched(self, brought: Sequence[OwnedInstance], call: LaunchCall) -> int:
        """To those that are served first. One that is known already is here by a listing; see launches.OnLaunched. One
        of another group has the store that an earlier process chose for the same pods: it is for none but them."""
        used, new = 0, []
        for owned in brought:
            if owned.instance_id in self._ends.known:
                used += 1
            elif (known := self._table.owned.get(owned.instance_id)) is None:
                self._table.add(owned)
                new.append(owned)
            else:
                used += known.stage not in (Stage.BOOTING, Stage.IDLE)
        equal = [owned for owned in new if owned.group == call.group.digest]
        others = [owned for owned in new if owned.group != call.group.digest]
        for owned in self._give(others, call.group, call.demands) + self._give(equal, call.group):
            self._spare(owned)
        return used

    def _spare(self, owned: OwnedInstance) -> None:
        """It came too late for the pod that it was launched for. Nothing has run on it, unless an earlier process made
        the same call: then its agent is asked."""
        if owned.handover_unknown:
            self.examine(owned)
        elif self._give_to_any(owned):
            log.info("instance %s is not needed any more", owned.instance_id)
            self.end(owned, "unused")

    def _give(
        self, instances: Sequence[OwnedInstance], group: Group, among: Sequence[Demand] | None = None
    ) -> list[OwnedInstance]:
        """Assign each to who is served first, of the whole group or `among` some of it; returns those that nobody
        needs."""
        left = list(instances)
        demands = list(among) if among is not None else group.ranked()
        if len(left) == 1:
            uid = left[0].described.tags.get(TAG_POD_UID, "")
            demands.sort(key=lambda demand: demand.uid != uid)  # whose tags it has is first
        left.reverse()
        for demand in demands:
            if not left:
                break
            if group.waiting.get(demand.uid) is not demand:
                continue
            if self.pods.is_waiting(demand.uid):
                owned = left.pop()
                self._assign(owned, demand, self._launches.explain(group, owned.described))
            else:
                self._waiting.leave(demand.uid)
        return left

    def _give_to_any(self, owned: OwnedInstance) -> bool:
        """To somebody who waits for one like it. Returns whether nobody does."""
        if owned.is_for_anybody:
            return not self._give_from_pool(owned)
        return all(self._give([owned], group) for group in self._waiting.groups.find_waiting(owned.group))

    def _give_from_pool(self, owned: OwnedInstance) -> bool:
        """To somebody who would have to wait for the cloud. Returns whether there is one."""
        for demand in self._waiting.find_uncovered():
            if self.pods.is_waiting(demand.uid) and (message := self.stock.fits(owned, demand)):
                self._assign(owned, demand, message)
                return True
        return False

    def _offer_idle(self) -> None:
        """A call has ended: to those whom it has brought nothing, what has got ready meanwhile was not offered."""
        for owned in self._unclaimed:
            if owned.is_for_anybody and owned.is_idle and self.is_settled:
                self._give_from_pool(owned)

    def _assign(self, owned: OwnedInstance, demand: Demand, message: str) -> None:
        self._waiting.leave(demand.uid)
        owned.pod_uid = demand.uid
        if self.unclaimed:
            self.settle(owned)
        self._tagging.put(owned, demand)
        steady = demand.steady_cpu_milli if owned.is_for_anybody else None
        self._meter.assign(owned.instance_id, owner_of_pod(demand.pod), steady)
        self.pods.on_assigned(demand.uid, owned, message)

    def known(self) -> Iterable[OwnedInstance]:
        """All that exist, whoever has them."""
        return self._table.owned.values()

    def stock_up(self, owned: OwnedInstance) -> None:
        """A new instance of a pool: idle once its agent says so."""
        if owned.instance_id in self._ends.known or owned.instance_id in self._table.owned:
            return
        self._table.add(owned)
        self._unclaimed.add(owned)
        self.links.open(owned)

    # --- stopped ones --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """After a listing. One of a pool that has never greeted, and is shown as stopped, was stopped by an earlier
        process, which a listing may say late."""
        for owned in self._unclaimed:
            is_new = owned.is_for_anybody and not (owned.rest or owned.ended or owned.link.ever_connected)
            if is_new and owned.described.state in _RESTING:
                self.links.begin_anew(owned)
                self._standby.adopt(owned)  # before those who waited for it go on
                self._unclaimed.resolve(owned)
        self._standby.look()

    def started(self, owned: OwnedInstance, demand: Demand) -> bool:
        """See standby.StandbySide."""
        if not self.pods.is_waiting(demand.uid):
            return False
        self._assign(owned, demand, self.stock.explain_started(owned, demand))
        return True

    def not_started(self, owned: OwnedInstance, demand: Demand, problem: CloudError) -> None:
        """One is launched for the pod, as without pools; what runs meanwhile and fits is given to it still."""
        self.stock.note_not_started(owned, problem)
        if not self.pods.is_waiting(demand.uid):
            return
        text = f"cannot start the stopped instance {owned.instance_id}, another one is launched: {problem}"
        self.pods.on_trouble(demand.uid, "Normal", eventreasons.NO_CAPACITY, text)
        self._waiting.join(demand)

    def stopped(self, owned: OwnedInstance) -> None:
        self.filling.note_stopped(owned)
        self._offer(owned)

    def offer_stopped(self, waits_s: float = 0.0) -> None:
        """To pods that wait for so long: one may have joined while nothing could be started, or a start has failed."""
        for owned in self._unclaimed:
            if self._standby.can_start(owned):
                self._offer(owned, waits_s)

    def _offer(self, owned: OwnedInstance, waits_s: float = 0.0) -> None:
        since = time.monotonic() - waits_s
        for demand in self._waiting.find_uncovered():  # those who would have to wait for the cloud
            if demand.since > since:
                continue
            if self.is_settled and self.pods.is_waiting(demand.uid) and self.stock.fits(owned, demand):
                self._waiting.leave(demand.uid)
                self.stock.start(owned, demand)
                return

    def not_stopped(self, owned: OwnedInstance, problem: CloudError) -> None:
        self.filling.note_not_stopped(owned, problem)

    def adopt(self, owned: OwnedInstance, uid: str, *, started: bool) -> None:
        """After a start: status or tags say that it is the pod's. started: the pod has run."""
        self._table.add(owned)
        self.settle(owned)
        owned.pod_uid = uid
        owned.fresh = owned.handover_unknown = not started
        self._inherit(owned, has_run=started)

    def _inherit(self, owned: OwnedInstance, *, has_run: bool) -> None:
        """It has its pod since an earlier process, which has not marked it, or whose marks are not listed yet."""
        pod = self.pods.find_pod(owned.pod_uid)
        if pod is None:
            return
        steady = self._waiting.steady_cpu_of(pod, owned.node) if owned.is_for_anybody else None
        self._meter.assign(owned.instance_id, owner_of_pod(pod), steady)
        if steady is not None:
            self._tagging.note_taken(owned, pod, steady, has_run=has_run)

    def examine(self, owned: OwnedInstance) -> None:
        """Nobody knows whose it is: its agent is asked."""
        self._table.add(owned)
        owned.pod_uid, owned.said_uid = "", None
        self._unclaimed.add(owned)
        if owned.is_for_anybody and owned.described.state in _RESTING:
            self._standby.adopt(owned)
            self.filling.wake()
            return
        self._unclaimed.expect(owned, is_new=self._launches.is_new(owned.described))
        self.links.open(owned)

    def _on_resolved(self, owned: OwnedInstance) -> None:
        """Who has waited for it may need a launch."""
        self._inherited.release()
        for group in self._waiting.groups.find_waiting(owned.group):
            self._launches.pump(group)

    def settle(self, owned: OwnedInstance) -> None:
        """Whose it is, is known, or that it is for nobody."""
        self._unclaimed.remove(owned)

    def give_back(self, owned: OwnedInstance) -> bool:
        """The pod has not used it, and somebody else may: once its agent says in a new session that it is empty. False:
        nobody waits for one like it, and no pool has it, or nobody knows what its tags will say."""
        if not owned.group or not owned.is_live or owned.boot_failed or owned.sent_uid or owned.unmarked:
            return False
        if owned.described.state.is_terminating:
            return False
        if not self.stock.wants(owned) and not self._waiting.groups.find_waiting(owned.group):
            return False
        self.links.close(owned)
        self.examine(owned)
        return True

    def part(self, owned: OwnedInstance) -> None:
        """Its pod is elsewhere, as another agent has proved: what this one has, it says itself, unless it was sent the
        pod, too."""
        if owned.sent_uid:
            owned.pod_uid = ""
            self.end(owned, "surplus")
            return
        self.links.close(owned)
        self.examine(owned)

    def refuse(self, owned: OwnedInstance, uid: str) -> None:
        """Its agent names a pod, and nothing proves that it was given that pod: see refusals.Refusals."""
        self._inherited.refuse(owned, uid)
        owned.pod_uid = ""
        self.settle(owned)

    def end(self, owned: OwnedInstance, why: str) -> None:
        """Nobody needs it: end it, in the background."""
        self.settle(owned)
        self._ends.let_go(owned, why)

    # --- what agents say -----------------------------------------------------------------------------------------

    def greeted(self, owned: OwnedInstance, uid: str, grant: str = "") -> None:
        """The agent's greeting names its pod, "" for none, and has the grant that came with it."""
        owned.said_uid = uid
        if uid and self._grants.is_genuine(grant, owned.instance_id, uid):
            owned.granted_uid = uid
        if owned.pod_uid:
            if uid == "":
                owned.handover_unknown = False
            elif uid != owned.pod_uid:
                self.pods.on_other_pod(owned, uid)
            return
        if uid == "":
            owned.handover_unknown = False
            if not self.is_settled:
                return
            if self._give_to_any(owned):
                self.filling.note_greeting(owned)
            self._unclaimed.resolve(owned)
            return
        claim = self.pods.claim(uid, owned)
        if claim is Claim.UNPROVED:
            self.refuse(owned, uid)
            return
        if claim is Claim.TAKEN:
            owned.pod_uid, owned.fresh, owned.handover_unknown = uid, False, False
            self._inherit(owned, has_run=True)
            self.settle(owned)
            log.info("instance %s has pod %s, by its agent's word", owned.instance_id, uid)
        else:
            log.warning("instance %s names pod %s, which is not waiting for it", owned.instance_id, uid)
            self._unclaimed.resolve(owned)

    def disconnected(self, owned: OwnedInstance) -> None:
        """The session of an instance that nobody has is over: what its agent said there counts no more."""
        owned.said_uid = None

    def on_dead(self, owned: OwnedInstance) -> None:
        """An unclaimed instance is lost or does not boot. One that tags give to a pod is left to the sweep, which asks
        the API server first."""
        self.settle(owned)
        if owned.boot_failed and owned.described.tags.get(TAG_POD_UID):
            self._ends.on_let_go(owned)
            return
        if owned.boot_failed:
            self.filling.note_failure(owned)
        self._ends.let_go(owned, "no-boot")

    def settle_all(self) -> None:
        """The cloud's listings are sure by now: idle instances that they show running are to be had."""
        self.is_settled = True
        for owned in self._unclaimed:
            if owned.is_idle and owned.described.state is InstanceState.RUNNING:
                self._give_to_any(owned)
            if owned.stage is not Stage.BOOTING:
                self._unclaimed.resolve(owned)
        self.offer_stopped()
        self.filling.wake()

    async def close(self) -> None:
        self._inherited.close()
        await self._standby.close()
        self._unclaimed.close()
