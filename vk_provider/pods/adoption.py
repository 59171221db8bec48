"""After a start: joins instances with pods, and decides about pods that ran but whose instance is not listed.

Which pod an instance serves is said by the pod's status, which names its addresses, or by its tags; its agent, who
knows it best, is asked next (instances.supply). An instance that neither names is dialed, and its agent decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from vk_provider.aiokit.guard import contained
from vk_provider.cloud.base import TAG_POD_UID, Instance
from vk_provider.errors import CloudError
from vk_provider.instances import missing
from vk_provider.instances.instance import OwnedInstance, describe_end
from vk_provider.instances.missing import MissingRule
from vk_provider.pods.assignment import LOOKING, SETTLING
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.naming import is_named
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import is_end_untold

log = logging.getLogger(__name__)

SURE_LISTINGS = 2
"""Listings that have to lack a pod's instance, after the time in which the cloud may lag behind."""
TOLD_PER_S = 20
"""Pods that had ended before without a word on their containers: of so many a second this is told after a start."""

HEARD_S = 3.0
"""So long after a start the agents that run are heard: tags may give a pod an instance while another one has it."""


class Adoption:
    """Joins the cloud's instances with the pods. `records`: those of the controller, by pod UID; nodes: ours."""

    def __init__(
        self,
        records: Mapping[str, PodRecord],
        executor: PodExecutor,
        nodes: Collection[str],
        wake: Callable[[str], None],
    ) -> None:
        self._records = records
        self._executor = executor
        self._room = executor.room
        self._nodes = nodes
        self._wake = wake
        self._rule = MissingRule(missing.MISSING_CONFIRM_S, missing.MASS_CONFIRM_S)
        self._is_doubtful = False
        self._by_address: dict[str, PodRecord] = {}
        self._settled_at = 0.0
        self._sure_listings = 0

    def join(self, instances: Iterable[Instance]) -> list[Instance]:
        """`instances` was listed before the pods. Returns the surplus instances, whose agents are asked, too: a tag may
        name a pod that the instance was not given to in the end."""
        listed = list(instances)
        self._by_address = _by_address(self._records.values())
        surplus: list[Instance] = []
        ranked: list[tuple[tuple[bool, bool, int, float], Instance]] = []
        for instance in listed:
            with contained(f"instance {instance.instance_id}"):
                ranked.append((self._rank(instance), instance))
        for _, instance in sorted(ranked, key=lambda item: item[0]):
            with contained(f"instance {instance.instance_id}"):
                if not instance.state.is_terminated and not self._place(instance):
                    surplus.append(instance)
        for record in self._records.values():
            with contained(f"pod {record.uid}"):
                self._hold(record)
        self._spread_endings()
        self._room.table.take(listed)
        self._settled_at = time.monotonic() + self._room.cloud.listing_lag_s
        self._room.supply.is_settled = not self._room.cloud.listing_lag_s
        self._judge(listed)
        if self._room.cloud.listing_lag_s or self._is_doubtful:
            for record in self._records.values():
                with contained(f"pod {record.uid}"):
                    self._hold_unstarted(record)
        return surplus

    def _place(self, instance: Instance) -> bool:
        """Give the instance to its pod, or ask its agent. False: it is surplus, and its agent is asked."""
        owned = OwnedInstance(instance)
        record = self._pod_of(instance)
        if record is None or record.owned is not None or _is_elsewhere(record, instance):
            # A tag may name a pod that is gone while the instance has another one: tags come late. To end it is the
            # sweep's business: the API server is asked first.
            if owned.node in self._nodes and not instance.state.is_terminating:
                self._room.supply.examine(owned)
            return record is None
        self._take(record, owned)
        return True

    def _pod_of(self, instance: Instance) -> PodRecord | None:
        of_status = self._by_address.get(instance.primary_ip)
        if of_status is not None and is_named(of_status, instance):
            return of_status
        return self._records.get(instance.tags.get(TAG_POD_UID, ""))

    def _hold(self, record: PodRecord) -> None:
        """A pod whose status shows that it has an instance, although none is listed, gets no other yet."""
        if record.owned is not None or record.first.ended is not None:
            return
        if record.first.started:
            record.admission.admit(LOOKING)
            self._executor.gate.count(record)
        elif (record.pod.get("status") or {}).get("hostIP"):
            record.admission.wait(LOOKING)

    def _hold_unstarted(self, record: PodRecord) -> None:
        """Nor does any other pod: an answer that lacks what statuses name may lack the instance of one whose status
        was never accepted, too."""
        if record.owned is None and record.first.ended is None and not record.admission.is_looked_for:
            record.admission.wait(SETTLING)

    def _spread_endings(self) -> None:
        """A Node may have thousands of pods that have ended, and other pods wait for the API server meanwhile."""
        now = time.monotonic()
        untold = (each for each in self._records.values() if each.first.ended is not None and is_end_untold(each))
        for place, record in enumerate(untold):
            record.leaving.tell_from(now + place / TOLD_PER_S)

    def _take(self, record: PodRecord, owned: OwnedInstance) -> None:
        self._room.supply.adopt(owned, record.uid, started=record.first.started)
        self._executor.give(record, owned)
        if not record.first.started:
            record.assignment.sent_from = time.monotonic() + HEARD_S
        log.info("pod %s: adopted instance %s", record.key, owned.instance_id)

    def _rank(self, instance: Instance) -> tuple[bool, bool, int, float]:
        """Sort key of the instances of one pod: first the one that the pod's status names, then the newest attempt (the
        earlier ones were abandoned), then the oldest; last those that are terminating if the pod never started."""
        record = self._pod_of(instance)
        ending = instance.state.is_terminating or instance.state.has_stopped
        unused = ending and record is not None and not record.first.started
        named = record is not None and is_named(record, instance)
        return unused, not named, -OwnedInstance(instance).attempt, instance.launch_time

    # --- pods whose instance is not listed -------------------------------------------------------------------------

    def _looking(self) -> list[PodRecord]:
        return [r for r in self._records.values() if r.admission.is_looked_for and r.owned is None and r.exists]

    @property
    def is_looking(self) -> bool:
        return bool(self._looking()) or not self._room.supply.is_settled

    async def look(self) -> None:
        """List again, once for all pods, until each has its instance or is known to have none."""
        while self.is_looking:
            await asyncio.sleep(self._pause_s())
            began = time.monotonic()
            try:
                await self._room.table.refresh()
            except CloudError as error:
                log.warning("cannot look for the instances of %d pods: %s", len(self._looking()), error)
                continue
            self._find(list(self._room.table.listed.values()), began)

    def _pause_s(self) -> float:
        """Several answers within the time of MissingRule: each that names an instance counts."""
        settling_s = self._settled_at - time.monotonic()
        return min(missing.MISSING_CONFIRM_S / 3, settling_s) if settling_s > 0 else missing.MISSING_CONFIRM_S / 3

    def _find(self, listed: list[Instance], began: float) -> None:
        self._sure_listings += began >= self._settled_at
        looking = {record.uid for record in self._looking()}
        for instance in listed:
            known = instance.instance_id in self._room.table.owned or instance.instance_id in self._room.ends.known
            if instance.state.is_terminated or known:
                continue
            with contained(f"instance {instance.instance_id}"):
                record = self._pod_of(instance)
                if record is None or _is_elsewhere(record, instance):
                    self._place(instance)
                elif record.uid in looking and record.owned is None:
                    self._take(record, OwnedInstance(instance))
                    self._wake(record.uid)
        for uid, lost in self._judge(listed, began).items():
            self._settle(self._records[uid], lost)
        if self._sure_listings < SURE_LISTINGS:
            return
        if not self._is_doubtful:
            for record in self._looking():
                if record.admission.hold == SETTLING:
                    self._settle(record, "")
        if not self._room.supply.is_settled:
            self._room.supply.settle_all()

    def _judge(self, listed: Iterable[Instance], began: float | None = None) -> dict[str, str]:
        """The pods that are known by now to have no instance, by UID: why they are lost, "" for those that never
        started. An ended instance of a pod may be an earlier attempt's, so it is no proof."""
        ended = {each.tags.get(TAG_POD_UID, ""): each for each in listed if each.state.is_terminated}
        asked = {record.uid for record in self._looking() if record.admission.hold == LOOKING}
        told = asked & ended.keys()  # the answer is no empty one
        self._rule.retain(asked)
        known = len(asked) + sum(record.owned is not None for record in self._records.values())
        others = self._room.table.doubted
        now = time.monotonic()
        verdict = self._rule.judge(asked, (), known, now, began=began, others=others, explained=told)
        doubted = verdict.doubted - told
        self._is_doubtful = bool(doubted or others)
        if verdict.mass and doubted:
            self._room.metrics.mass_missing.labels("adoption").inc()
            log.error(
                "the cloud names no instance for %d of %d pods that ran, and lacks %d known ones: too many at once, "
                "none is taken for lost yet",
                len(doubted),
                known,
                others,
            )
        gone = dict.fromkeys(verdict.missing, "the pod's instance does not exist any more")
        gone |= {uid: describe_end(ended[uid]) for uid in verdict.missing & told}
        return {uid: why if self._records[uid].first.started else "" for uid, why in gone.items()}

    def _settle(self, record: PodRecord, lost: str) -> None:
        record.admission.go_on()
        record.lose(lost)
        self._wake(record.uid)


def _is_elsewhere(record: PodRecord, instance: Instance) -> bool:
    """Whether the pod runs on another instance than this one, which was launched for it: its status says where."""
    host = (record.pod.get("status") or {}).get("hostIP")
    return bool(record.first.started and host and instance.host_ips) and host not in instance.host_ips


def _by_address(records: Iterable[PodRecord]) -> dict[str, PodRecord]:
    """Pods by the address of their instance that their status names."""
    return {
        host: record
        for record in records
        if (host := (record.pod.get("status") or {}).get("hostIP")) and record.first.ended is None
    }
