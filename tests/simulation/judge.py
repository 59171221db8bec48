"""What must hold, all along and when everything is quiet."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.simulation.agents import Agent, Fleet
from tests.simulation.apiserver.network import Network
from tests.simulation.apiserver.store import Change
from tests.simulation.cloud import CloudServer
from tests.simulation.liars import is_hostile
from tests.simulation.loop import PROCESS, Process
from tests.simulation.process import NODE, ProviderProcess
from tests.simulation.workload import HELD, REFUSED
from vk_provider import errors
from vk_provider.cloud.base import TAG_GROUP, TAG_POD_NAMESPACE, TAG_POD_UID, TAG_POOL, Instance
from vk_provider.jsontypes import Json
from vk_provider.leader import Leader
from vk_provider.ledger.ledger import Ledger
from vk_provider.ledger.question import CostQuestion, answer
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.state import has_started
from vk_provider.settings import PoolSettings

TWO_INSTANCES = "the containers of a pod ran on two instances"
FAILED_WHILE_RUNNING = "a pod was failed while its containers ran"
ENDED_WHILE_RUNNING = "the instance of a running pod was ended"
STOPPED_WHILE_GIVEN = "the instance of a pod was stopped"
RUNS_IDLE = "an instance of a stopped pool runs while nobody has it"
OUTLIVED = "an instance without a pod outlived the sweep"
OVERFULL = "a pool was filled beyond its size"
NOT_FULL = "a pool is not filled"
STATUS_MISSING = "the API server does not have the status that the agent told last"
WRONG_STATE = "a pod is not in the state that its spec, its agent and the cloud allow"
DELETION_STUCK = "a deleted pod stays although nothing holds it"
STALE = "an agent does not have the newest pod, references, Services or tables"
UNHANDLED = "an unexpected exception"
TASKS_LEFT = "tasks are left after the stop"
MEMORY = "something is kept of what is gone"
WAITS_FOR_EVER = "somebody waits for ever"
UNMARKED = "an instance of a pool has a pod that its tags do not name"
LEAKED = "an instance was sent a pod that it was not given to"
BILL = "the ledger does not say what the cloud's bill says"

CHECK_S = 5.0
DELETION_LIMIT_S = 40.0
"""After the grace period, while provider and API server are well and the agent, if there is one, answers."""
FORGIVEN_S = 45.0
"""An agent that did not greet is dialed again so much later at most."""
STATUS_LIMIT_S = 45.0
"""Another writer is corrected at most every 10 s, and a failed PATCH is repeated after 30 s at most."""
LISTING_S = 60.0
"""Between two listings at most, while nobody asks for one: an end that nobody was told of is as uncertain."""
BLIND_S = 400.0
"""How long a fault of the cloud may have made the provider count wrong."""
CALM_S = 35.0
"""A retry may be so late after a fault."""
_EXPECTED = tuple(
    name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.VkError)
)


@dataclass(frozen=True, slots=True)
class Violation:
    """invariant: one of the sentences above."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


class Judge:
    """Knows the truth: what is stored, what runs, what the cloud has. `violations`: found so far."""

    def __init__(self, network: Network, cloud: CloudServer, fleet: Fleet) -> None:
        self._network, self._cloud, self._fleet = network, cloud, fleet
        self.violations: list[Violation] = []
        self._killed: dict[str, str] = {}
        """ID of each instance that the cloud itself has ended -> UID of its pod."""
        self.process: ProviderProcess | None = None
        self.pools: tuple[PoolSettings, ...] = ()
        self._blind_until = 0.0
        self._ran_on: dict[str, str] = {}
        self._seen_started: set[str] = set()
        self._calm_since = 0.0
        self._held_s: dict[str, float] = {}
        self._behind_s: dict[str, float] = {}
        self._stuck: set[str] = set()

    def note_killed(self, instance_id: str) -> None:
        """The cloud itself ends the instance."""
        self._killed[instance_id] = self._pod_of(instance_id)

    def _was_killed(self, pod: Json) -> bool:
        uids = {self._pod_of(instance_id) for instance_id in self._killed} | set(self._killed.values())
        message = pod["status"].get("message", "")
        return pod["metadata"]["uid"] in uids or any(name in message for name in self._killed)

    def _pod_of(self, instance_id: str) -> str:
        """UID of the pod that an instance serves: by its agent, by the provider, by its tag."""
        agent = self._fleet.agents[instance_id]
        if agent.core.uid:
            return agent.core.uid
        leader = _leader(self.process)
        owned = leader.room.table.owned.get(instance_id) if leader is not None else None
        if owned is not None and owned.pod_uid:
            return owned.pod_uid
        return self._cloud.pod_uid_of(instance_id)

    def fail(self, invariant: str, detail: str) -> None:
        self.violations.append(Violation(invariant, detail))

    # --- all along ---------------------------------------------------------------------------------------------------

    def on_start(self, agent: Agent) -> None:
        """Containers begin to run."""
        uid, instance_id = agent.core.uid, agent.instance.instance_id
        if agent.core.pod is not None and is_hostile(agent.core.pod):
            return
        first = self._ran_on.setdefault(uid, instance_id)
        if first == instance_id:
            return
        if self._fleet.agents[first].is_gone and uid not in self._seen_started:
            # The only one that knew that the pod had started is gone, and its word never reached the API server.
            self._ran_on[uid] = instance_id
            return
        self.fail(TWO_INSTANCES, f"{self._name(uid)} on {first} and {instance_id}")

    def on_message(self, agent: Agent, message: Json) -> None:
        """The provider has sent something. What greets as empty once a pod has run there may be taken for empty, by a
        provider that did not send it: then it gets only what reads the same."""
        had = agent.core.pod
        if message["type"] != "pod":
            return
        sent = message["pod"]
        if had is None:
            self._check_mark(agent, sent["metadata"]["uid"], "is sent")
            return
        if sent["metadata"]["uid"] == agent.core.uid:
            return
        if not (is_hostile(had) and is_hostile(sent)):
            names = sent["metadata"]["name"], had["metadata"]["name"]
            self.fail(LEAKED, f"{names[0]} to {agent.instance.instance_id} of {names[1]}")

    def _check_mark(self, agent: Agent, uid: str, what: str) -> None:
        """Without it, the agent is believed by the next provider when it says that it is empty."""
        tags = self._cloud.tags_of(agent.instance.instance_id)
        if TAG_POOL in tags and (tags.get(TAG_POD_UID) != uid or TAG_POD_NAMESPACE not in tags):
            self.fail(
                UNMARKED, f"{agent.instance.instance_id} {what} {self._name(uid)}, tagged {tags.get(TAG_POD_UID)}"
            )

    def on_launch(self, instance: Instance) -> None:
        """The provider may count what it does not hear of, and not what it has not heard of for long."""
        now, faults, pool = asyncio.get_running_loop().time(), self._cloud.faults, instance.tags.get(TAG_POOL)
        if faults.blind or faults.all_blind or faults.stale or not faults.is_calm:
            self._blind_until = now + BLIND_S
        if not pool or now < self._blind_until:
            return
        size = next((max(_count(each), each.max) for each in self.pools if each.name == pool), 0)
        agents = [self._fleet.agents[name] for name in self._idle_like(instance)]
        found = sum(agent.answers(now) or agent.is_off or agent.boots_at > now for agent in agents)
        if found > size:
            self.fail(OVERFULL, f"{pool}: {found} of {size}")

    def _idle_like(self, instance: Instance) -> list[str]:
        """IDs of the instances of its pool, as that is now, that no pod has."""
        wanted = [instance.tags.get(name) for name in (TAG_POOL, TAG_GROUP)]
        found = [each for each in self._cloud.costing() if [each.tags.get(n) for n in (TAG_POOL, TAG_GROUP)] == wanted]
        return [each.instance_id for each in found if not self._pod_of(each.instance_id)]

    def on_change(self, resource: str, change: Change) -> None:
        old, new = change.old, change.new
        if resource == "pods" and new is not None and has_started(new):
            self._seen_started.add(new["metadata"]["uid"])
        if resource != "pods" or old is None or new is None or new["metadata"].get("deletionTimestamp"):
            return
        if is_hostile(new):
            return
        if _phase(old) in TERMINAL_PHASES or _phase(new) not in TERMINAL_PHASES:
            return
        agent = self.agent_of(new["metadata"]["uid"])
        if agent is not None and agent.core.runs and not agent.is_gone:
            reason = new["status"].get("reason", "")
            self.fail(FAILED_WHILE_RUNNING, f"{new['metadata']['name']} ({reason}) on {agent.instance.instance_id}")

    def on_terminate(self, instance_id: str) -> None:
        """The provider ends an instance."""
        agent = self._fleet.agents.get(instance_id)
        if agent is None or agent.is_gone or not agent.core.runs:
            return
        pod = self._find(agent.core.uid)
        if pod is None or is_hostile(pod):
            return
        if not pod["metadata"].get("deletionTimestamp") and _phase(pod) not in TERMINAL_PHASES:
            self.fail(ENDED_WHILE_RUNNING, f"{pod['metadata']['name']} on {instance_id}")

    def on_stop(self, instance_id: str) -> None:
        """The provider stops an instance."""
        agent = self._fleet.agents[instance_id]
        pod = self._find(agent.core.uid) if agent.core.uid else None
        if pod is not None:
            self.fail(STOPPED_WHILE_GIVEN, f"{pod['metadata']['name']} on {instance_id}")

    def on_error(self, process: Process | None, context: dict[str, Any]) -> None:
        """What the event loop reports."""
        if process is None or not process.is_dead:
            error = context.get("exception")
            text = "".join(traceback.format_exception(error)) if error is not None else ""
            self.fail(UNHANDLED, f"{context.get('message')} {text}")

    def on_log(self, record: logging.LogRecord) -> None:
        """What the provider says about itself."""
        process = PROCESS.get()
        if process is None or process.is_dead:
            return
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None and record.levelno >= logging.ERROR:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        elif not _is_fault(text):
            return
        self.fail(UNHANDLED, text)

    def on_exit(self, process: ProviderProcess) -> None:
        """A provider's process has ended."""
        if process.failure is not None and not process.bad_start:
            self.fail(UNHANDLED, "the process: " + "".join(traceback.format_exception(process.failure)))
        if process.has_exited and process.was_asked:
            left = sorted(task.get_name() for task in process.tasks if not task.done())
            if left:
                self.fail(TASKS_LEFT, ", ".join(left))

    def check(self) -> None:
        """Every CHECK_S."""
        now = asyncio.get_running_loop().time()
        process = self.process
        is_well = process is not None and process.is_running and _has_adopted(process)
        if not is_well or not self._network.faults.is_calm or self._network.server.admission:
            self._calm_since = now
        if now - self._calm_since < CALM_S:
            self._behind_s.clear()
            return
        for pod in self.pods():
            if is_hostile(pod):
                continue  # it may hurt itself
            self._check_status(pod)
            metadata = pod["metadata"]
            if not metadata.get("deletionTimestamp") or not self._is_reachable(metadata["uid"], now):
                self._held_s.pop(metadata["uid"], None)
                continue
            held_s = self._held_s[metadata["uid"]] = self._held_s.get(metadata["uid"], 0.0) + CHECK_S
            limit_s = DELETION_LIMIT_S + float(metadata.get("deletionGracePeriodSeconds") or 0)
            if held_s > limit_s and metadata["uid"] not in self._stuck:
                self._stuck.add(metadata["uid"])
                self.fail(DELETION_STUCK, f"{metadata['name']} for {held_s:.0f} s")

    def _check_status(self, pod: Json) -> None:
        """What an agent says over its session is soon in the API server."""
        metadata = pod["metadata"]
        agent = self.agent_of(metadata["uid"])
        told = agent.core.status if agent is not None and agent.channel is not None and not agent.is_gone else None
        if told is None or metadata.get("deletionTimestamp") or _essence(told) == _essence(pod["status"]):
            self._behind_s.pop(metadata["uid"], None)
            return
        behind_s = self._behind_s[metadata["uid"]] = self._behind_s.get(metadata["uid"], 0.0) + CHECK_S
        if behind_s > STATUS_LIMIT_S and metadata["uid"] not in self._stuck:
            self._stuck.add(metadata["uid"])
            told_s = f"{_essence(told)} was told {behind_s:.0f} s ago"
            self.fail(STATUS_MISSING, f"{metadata['name']}: {told_s}, {_essence(pod['status'])} is stored")

    def _is_reachable(self, uid: str, now: float) -> bool:
        """Whether the agents of the pod's instances answer: while one does not, nobody knows what runs there."""
        served = [each.instance_id for each in self._cloud.live() if self._pod_of(each.instance_id) == uid]
        agents = [self._fleet.agents[instance_id] for instance_id in served]
        return all(agent.answers(now) and now >= agent.mute_until + FORGIVEN_S for agent in agents)

    # --- when everything is quiet ------------------------------------------------------------------------------------

    def unmet(self) -> list[Violation]:
        """What does not hold yet."""
        process = self.process
        if process is None or not process.is_running or not _has_adopted(process):
            return [Violation(WAITS_FOR_EVER, "the provider does not run")]
        node = self._network.server.store.find("nodes", "", NODE)
        if node is None or _condition(node, "Ready") != "True":
            return [Violation(WAITS_FOR_EVER, "the Node is not Ready")]
        return [*self.judge_pods_and_instances(), *self._judge_resting(), *self._judge_memory(process)]

    def judge_pods_and_instances(self) -> list[Violation]:
        """Whether each pod is as it should be, on one instance, and no instance runs that no pod owns."""
        found = [violation for pod in self.pods() if (violation := self._judge_pod(pod)) is not None]
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
        agent = self.agent_of(uid)
        if phase == "Failed" and reason.startswith("Instance"):
            # Only for an instance that the cloud has ended, or for boots that failed.
            excused = self._was_killed(pod) or (reason == "InstanceBootFailed" and agent is None)
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
        if _essence(told) != _essence(status) and not (agent.core.finished and self._was_killed(pod)):
            return Violation(STATUS_MISSING, f"{name}: {_essence(told)} was told, {_essence(status)} is stored")
        return None

    def _find_stale(self, pod: Json, agent: Agent) -> str:
        """What the agent of a running pod has not been told."""
        core, store = agent.core, self._network.server.store
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
        process = self.process
        leader = _leader(process)
        assert leader is not None
        record = leader.controller.records[metadata["uid"]]
        for source in leader.networking.sources(record):
            if core.tables.get(source.name, "") != source.revision:
                return f"table {source.name} {source.revision}, it has {core.tables.get(source.name)}"
        return ""

    def _judge_instances(self) -> Iterable[Violation]:
        served: dict[str, str] = {}
        idle = dict.fromkeys((each.name for each in self.pools), 0)
        ready = dict(idle)
        for instance in self._cloud.costing():
            pool = instance.tags.get(TAG_POOL, "")
            is_idle = pool in idle and not self._pod_of(instance.instance_id)
            if is_idle:
                ready[pool] += 1
            if instance.instance_id in self._cloud.protected:
                continue
            if is_idle:
                idle[pool] += 1
                continue
            agent = self._fleet.agents[instance.instance_id]
            uid = agent.core.uid
            if uid:
                self._check_mark(agent, uid, "has")
            pod = self._find(uid)
            if pod is None or _phase(pod) in TERMINAL_PHASES or uid in served:
                yield Violation(OUTLIVED, f"{instance.instance_id} of {self._name(uid)}")
            served[uid] = instance.instance_id
        for each in self.pools:
            if idle[each.name] > _count(each):
                yield Violation(OUTLIVED, f"{idle[each.name]} idle ones of {each.name}, of {_count(each)}")
            if ready[each.name] < _count(each):
                yield Violation(NOT_FULL, f"{ready[each.name]} of {each.name}, of {_count(each)}")

    def _judge_resting(self) -> Iterable[Violation]:
        stopped = {each.name for each in self.pools if each.state == "stopped"}
        for instance in self._cloud.costing():
            name = instance.instance_id
            is_idle = instance.tags.get(TAG_POOL) in stopped and not self._pod_of(name)
            if is_idle and not self._cloud.is_resting(name) and name not in self._cloud.protected:
                yield Violation(RUNS_IDLE, name)

    def _judge_memory(self, process: ProviderProcess) -> Iterable[Violation]:
        provider = _leader(process)
        assert provider is not None
        uids = {pod["metadata"]["uid"] for pod in self.pods()}
        records = set(provider.controller.records)
        if records != uids:
            names = sorted(provider.controller.records[uid].name for uid in records - uids)
            yield Violation(MEMORY, f"records of pods that are gone: {names}, none of {len(uids - records)}")
        subscribed = set(provider.references._records) - uids
        if subscribed:
            yield Violation(MEMORY, f"references of {len(subscribed)} pods that are gone")
        room, protected = provider.room, self._cloud.protected
        gone = {name for name in room.table.owned if not self._cloud.exists(name)}
        if gone:
            yield Violation(MEMORY, f"instances that are gone: {sorted(gone)}")
        waiting = set(room.launches._demands) - uids
        if waiting or len(room.launches.groups) or set(room.ends.known) - protected:
            kept = f"{len(waiting)} demands, {len(room.launches.groups)} groups, {sorted(room.ends.known)}"
            yield Violation(MEMORY, f"launches and ends of what is gone: {kept}")
        tasks = sum(not task.done() for task in process.tasks)
        pooled = sum(_count(each) for each in self.pools)
        if tasks > 60 + 8 * (len(uids) + pooled) + len(self._cloud.protected):
            yield Violation(MEMORY, f"{tasks} tasks for {len(uids)} pods")

    def judge_bill(self) -> Iterable[Violation]:
        """Once everything is quiet, of each instance that ever was, in all lives of the provider."""
        provider = _leader(self.process)
        assert provider is not None
        counted = count_seconds(provider.ledger)
        for instance_id in self._cloud.ran:
            billed_s, counted_s = self._cloud.billed_s(instance_id), counted.pop(instance_id, 0.0)
            stale_s = self._cloud.stale_s if counted_s > billed_s else 0.0  # listings showed what had ended as running
            if abs(billed_s - counted_s) > LISTING_S + stale_s:
                yield Violation(BILL, f"{instance_id} ran for {billed_s:.1f} s, {counted_s:.1f} s are counted")
        if counted:
            yield Violation(BILL, f"instances that never were: {sorted(counted)}")

    # --- the truth ---------------------------------------------------------------------------------------------------

    def pods(self) -> list[Json]:
        return [pod for pod in self._network.server.store.items("pods") if pod["spec"].get("nodeName") == NODE]

    def _find(self, uid: str) -> Json | None:
        return next((pod for pod in self.pods() if pod["metadata"]["uid"] == uid), None)

    def agent_of(self, uid: str) -> Agent | None:
        """The agent that has accepted the pod; the one that ran it first."""
        first = self._ran_on.get(uid)
        if first is not None:
            return self._fleet.agents[first]
        found = [agent for agent in self._fleet.agents.values() if agent.core.uid == uid]
        return min(found, key=lambda agent: (agent.is_gone, agent.boots_at)) if found else None

    def _name(self, uid: str) -> str:
        pod = self._find(uid)
        return str(pod["metadata"]["name"]) if pod is not None else uid


def count_seconds(ledger: Ledger) -> dict[str, float]:
    """ID -> seconds, after a last write."""
    now, changed = ledger.meter.clock(), list(ledger.meter.changed.values())
    ledger._store.write(changed, now)
    question = CostQuestion(("instance",), 0.0, now)
    return {row["key"][0]: row["seconds"] for row in answer(ledger._store, question)["rows"]}


def _has_adopted(process: ProviderProcess) -> bool:
    leader = _leader(process)
    return leader is not None and not leader.controller._adopting


def _count(pool: PoolSettings) -> int:
    """Its windows are always in force."""
    return max((window.count for window in pool.schedule), default=pool.count)


def _leader(process: ProviderProcess | None) -> Leader | None:
    """None before the cloud has answered."""
    return process.provider.leader if process is not None and process.provider is not None else None


def _phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _condition(item: Json, kind: str) -> str:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


def _essence(status: Json) -> tuple[Any, ...]:
    """Phase, Ready, and each container's state."""
    containers = [
        (item["name"], *(item.get("state") or {}), item.get("restartCount"), item.get("containerID"))
        for item in status.get("containerStatuses") or []
    ]
    return status.get("phase"), _condition({"status": status}, "Ready"), *containers


def _is_fault(text: str) -> bool:
    """Whether a line of the log is about an error that nobody has foreseen."""
    if "failed, again in" in text:
        return not any(f": {name}: " in text for name in _EXPECTED)
    return "cannot be handled" in text or "cannot be checked" in text
