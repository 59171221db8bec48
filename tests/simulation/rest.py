"""What must hold when everything is quiet."""

from __future__ import annotations

from collections.abc import Iterable

from tests.simulation.agents import Agent
from tests.simulation.invariants import (
    BILL,
    DELETION_STUCK,
    MEMORY,
    NOT_FULL,
    OUTLIVED,
    RUNS_IDLE,
    STALE,
    STATUS_MISSING,
    UNMARKED,
    WAITS_FOR_EVER,
    WRONG_STATE,
    Violation,
)
from tests.simulation.liars import is_hostile
from tests.simulation.process import NODE, ProviderProcess
from tests.simulation.truth import Truth, condition_of, count_wanted, essence_of, phase_of
from tests.simulation.workload import HELD, REFUSED
from vk_provider.cloud.base import TAG_POOL
from vk_provider.jsontypes import Json
from vk_provider.ledger.ledger import Ledger
from vk_provider.ledger.question import CostQuestion, answer
from vk_provider.podmodel.phase import TERMINAL_PHASES

LISTING_S = 60.0
"""Between two listings at most, while nobody asks for one: an end that nobody was told of is as uncertain."""


class RestJudge:
    """Looks at the truth once nothing goes wrong any more."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def unmet(self) -> list[Violation]:
        """What does not hold yet."""
        process = self._truth.process
        if process is None or not self._truth.has_adopted:
            return [Violation(WAITS_FOR_EVER, "the provider does not run")]
        node = self._truth.network.server.store.find("nodes", "", NODE)
        if node is None or condition_of(node, "Ready") != "True":
            return [Violation(WAITS_FOR_EVER, "the Node is not Ready")]
        return [*self.judge_pods_and_instances(), *self._judge_resting(), *self._judge_memory(process)]

    def judge_pods_and_instances(self) -> list[Violation]:
        """Whether each pod is as it should be, on one instance, and no instance runs that no pod owns."""
        found = [violation for pod in self._truth.pods() if (violation := self._judge_pod(pod)) is not None]
        return [*found, *self._judge_instances()]

    def _judge_pod(self, pod: Json) -> Violation | None:
        metadata, status = pod["metadata"], pod["status"]
        name, uid, phase, reason = metadata["name"], metadata["uid"], status.get("phase"), status.get("reason", "")
        template = metadata["labels"]["template"]
        if metadata.get("deletionTimestamp"):
            return Violation(DELETION_STUCK, f"{name} is still there")
        if is_hostile(pod):
            return None
        if template in REFUSED:
            fits = (phase, reason) == ("Failed", REFUSED[template])
            return None if fits else Violation(WRONG_STATE, f"{name} is {phase} {reason}, not {REFUSED[template]}")
        if template in HELD:
            return None if phase == "Pending" else Violation(WRONG_STATE, f"{name} is {phase} {reason}")
        agent = self._truth.agent_of(uid)
        if phase == "Failed" and reason.startswith("Instance"):
            # Only for an instance that the cloud has ended, or for boots that failed.
            excused = self._truth.was_killed(pod) or (reason == "InstanceBootFailed" and agent is None)
            return None if excused else Violation(WRONG_STATE, f"{name} is Failed {reason}: {status.get('message')}")
        if agent is None:
            return Violation(WRONG_STATE, f"{name} is {phase} {reason} without an agent")
        if not agent.core.finished and (phase != "Running" or agent.is_gone):
            return Violation(
                WRONG_STATE, f"{name} is {phase} {reason}, its agent {'gone' if agent.is_gone else 'well'}"
            )
        if not agent.core.finished and (stale := self._find_stale(pod, agent)):
            return Violation(STALE, f"{name}: {stale}")
        told = agent.core.status or {}
        if essence_of(told) != essence_of(status) and not (agent.core.finished and self._truth.was_killed(pod)):
            return Violation(STATUS_MISSING, f"{name}: {essence_of(told)} was told, {essence_of(status)} is stored")
        return None

    def _find_stale(self, pod: Json, agent: Agent) -> str:
        """What the agent of a running pod has not been told."""
        core, store = agent.core, self._truth.network.server.store
        had, metadata = (core.pod or {})["metadata"], pod["metadata"]
        for name in ("generation", "labels"):
            if had.get(name) != metadata.get(name):
                return f"{name} {metadata.get(name)}, it has {had.get(name)}"
        for name, item in (core.references.get("configMaps") or {}).items():
            held = store.find("configmaps", metadata["namespace"], name)
            if (item or {}).get("data") != (held or {}).get("data"):
                return f"ConfigMap {name}"
        services = [each["metadata"]["name"] for each in store.items("services")]
        if [each["name"] for each in core.services] != services:
            return f"Services {services}, it has {core.services}"
        leader = self._truth.leader
        assert leader is not None
        record = leader.controller.records[metadata["uid"]]
        for source in leader.networking.sources(record):
            if core.tables.get(source.name, "") != source.revision:
                return f"table {source.name} {source.revision}, it has {core.tables.get(source.name)}"
        return ""

    def _judge_instances(self) -> Iterable[Violation]:
        served: dict[str, str] = {}
        idle = dict.fromkeys((each.name for each in self._truth.pools), 0)
        ready = dict(idle)
        for instance in self._truth.cloud.costing():
            pool = instance.tags.get(TAG_POOL, "")
            is_idle = pool in idle and not self._truth.pod_of(instance.instance_id)
            if is_idle:
                ready[pool] += 1
            if instance.instance_id in self._truth.cloud.protected:
                continue
            if is_idle:
                idle[pool] += 1
                continue
            agent = self._truth.fleet.agents[instance.instance_id]
            uid = agent.core.uid
            if uid and (unmarked := self._truth.find_unmarked(agent, uid)):
                yield Violation(UNMARKED, unmarked)
            pod = self._truth.find(uid)
            if pod is None or phase_of(pod) in TERMINAL_PHASES or uid in served:
                yield Violation(OUTLIVED, f"{instance.instance_id} of {self._truth.name(uid)}")
            served[uid] = instance.instance_id
        for each in self._truth.pools:
            if idle[each.name] > count_wanted(each):
                yield Violation(OUTLIVED, f"{idle[each.name]} idle ones of {each.name}, of {count_wanted(each)}")
            if ready[each.name] < count_wanted(each):
                yield Violation(NOT_FULL, f"{ready[each.name]} of {each.name}, of {count_wanted(each)}")

    def _judge_resting(self) -> Iterable[Violation]:
        stopped = {each.name for each in self._truth.pools if each.state == "stopped"}
        for instance in self._truth.cloud.costing():
            name = instance.instance_id
            is_idle = instance.tags.get(TAG_POOL) in stopped and not self._truth.pod_of(name)
            if is_idle and not self._truth.cloud.is_resting(name) and name not in self._truth.cloud.protected:
                yield Violation(RUNS_IDLE, name)

    def _judge_memory(self, process: ProviderProcess) -> Iterable[Violation]:
        provider = self._truth.leader
        assert provider is not None
        uids = {pod["metadata"]["uid"] for pod in self._truth.pods()}
        records = set(provider.controller.records)
        if records != uids:
            names = sorted(provider.controller.records[uid].name for uid in records - uids)
            yield Violation(MEMORY, f"records of pods that are gone: {names}, none of {len(uids - records)}")
        subscribed = set(provider.references._records) - uids
        if subscribed:
            yield Violation(MEMORY, f"references of {len(subscribed)} pods that are gone")
        room, protected = provider.room, self._truth.cloud.protected
        gone = {name for name in room.table.owned if not self._truth.cloud.exists(name)}
        if gone:
            yield Violation(MEMORY, f"instances that are gone: {sorted(gone)}")
        waiting = {demand.uid for demand in room.waiting} - uids
        if waiting or len(room.waiting.groups) or set(room.ends.known) - protected:
            kept = f"{len(waiting)} demands, {len(room.waiting.groups)} groups, {sorted(room.ends.known)}"
            yield Violation(MEMORY, f"launches and ends of what is gone: {kept}")
        tasks = sum(not task.done() for task in process.tasks)
        pooled = sum(count_wanted(each) for each in self._truth.pools)
        if tasks > 60 + 8 * (len(uids) + pooled) + len(self._truth.cloud.protected):
            yield Violation(MEMORY, f"{tasks} tasks for {len(uids)} pods")

    def judge_bill(self) -> Iterable[Violation]:
        """Once everything is quiet, of each instance that ever was, in all lives of the provider."""
        provider = self._truth.leader
        assert provider is not None
        counted = count_seconds(provider.ledger)
        for instance_id in self._truth.cloud.ran:
            billed_s, counted_s = self._truth.cloud.billed_s(instance_id), counted.pop(instance_id, 0.0)
            # Listings showed what had ended as running.
            stale_s = self._truth.cloud.stale_s if counted_s > billed_s else 0.0
            if abs(billed_s - counted_s) > LISTING_S + stale_s:
                yield Violation(BILL, f"{instance_id} ran for {billed_s:.1f} s, {counted_s:.1f} s are counted")
        unknown = counted.keys() - self._truth.cloud.stores.ever
        if unknown:
            yield Violation(BILL, f"instances that never were: {sorted(unknown)}")


def count_seconds(ledger: Ledger) -> dict[str, float]:
    """ID -> seconds, after a last write."""
    now, changed = ledger.meter.clock(), list(ledger.meter.changed.values())
    ledger._store.write(changed, now)
    question = CostQuestion(("instance",), 0.0, now)
    return {row["key"][0]: row["seconds"] for row in answer(ledger._store, question)["rows"]}
