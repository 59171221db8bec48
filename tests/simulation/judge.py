"""What must hold all along."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

from tests.simulation.agents import Agent
from tests.simulation.apiserver.store import Change
from tests.simulation.invariants import (
    DELETION_STUCK,
    ENDED_WHILE_RUNNING,
    FAILED_WHILE_RUNNING,
    LEAKED,
    OVERFULL,
    STATUS_MISSING,
    STOPPED_WHILE_GIVEN,
    TASKS_LEFT,
    TWO_INSTANCES,
    UNHANDLED,
    UNMARKED,
    Violation,
)
from tests.simulation.liars import is_hostile
from tests.simulation.loop import PROCESS, Process
from tests.simulation.process import ProviderProcess
from tests.simulation.truth import Truth, count_wanted, essence_of, phase_of
from vk_provider import errors
from vk_provider.cloud.base import TAG_POOL, Instance
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.state import has_started

CHECK_S = 5.0
DELETION_LIMIT_S = 40.0
"""After the grace period, while provider and API server are well and the agent, if there is one, answers. While the
cloud does not answer, a pod whose instance is looked for after a start may be on one: it stays."""
STATUS_LIMIT_S = 45.0
"""Another writer is corrected at most every 10 s, and a failed PATCH is repeated after 30 s at most."""
BLIND_S = 400.0
"""How long a fault of the cloud may have made the provider count wrong."""
CALM_S = 35.0
"""A retry may be so late after a fault."""
CLOUD_CALM_S = 75.0
"""So late the cloud may be asked again after it has throttled."""
_EXPECTED = tuple(
    name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.VkError)
)


class Judge:
    """Hears of everything that happens. `violations`: found so far."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.violations: list[Violation] = []
        self._blind_until = 0.0
        self._seen_started: set[str] = set()
        self._calm_since = self._cloud_calm_since = 0.0
        self._held_s: dict[str, float] = {}
        self._behind_s: dict[str, float] = {}
        self._stuck: set[str] = set()

    def fail(self, invariant: str, detail: str) -> None:
        self.violations.append(Violation(invariant, detail))

    # --- all along ---------------------------------------------------------------------------------------------------

    def on_start(self, agent: Agent) -> None:
        """Containers begin to run."""
        uid, instance_id = agent.core.uid, agent.instance.instance_id
        if agent.core.pod is not None and is_hostile(agent.core.pod):
            return
        first = self._truth.ran_on.setdefault(uid, instance_id)
        if first == instance_id:
            return
        if self._truth.fleet.agents[first].is_gone and uid not in self._seen_started:
            # The only one that knew that the pod had started is gone, and its word never reached the API server.
            self._truth.ran_on[uid] = instance_id
            return
        self.fail(TWO_INSTANCES, f"{self._truth.name(uid)} on {first} and {instance_id}")

    def on_message(self, agent: Agent, message: Json) -> None:
        """The provider has sent something. What greets as empty once a pod has run there may be taken for empty, by a
        provider that did not send it: then it gets only what reads the same."""
        had = agent.core.pod
        if message["type"] != "pod":
            return
        sent = message["pod"]
        if had is None:
            if unmarked := self._truth.find_unmarked(agent, sent["metadata"]["uid"]):
                self.fail(UNMARKED, unmarked)
            return
        if sent["metadata"]["uid"] == agent.core.uid:
            return
        if not (is_hostile(had) and is_hostile(sent)):
            names = sent["metadata"]["name"], had["metadata"]["name"]
            self.fail(LEAKED, f"{names[0]} to {agent.instance.instance_id} of {names[1]}")

    def on_launch(self, instance: Instance) -> None:
        """The provider may count what it does not hear of, and not what it has not heard of for long."""
        now, faults, pool = asyncio.get_running_loop().time(), self._truth.cloud.faults, instance.tags.get(TAG_POOL)
        if faults.blind or faults.all_blind or faults.stale or not faults.is_calm:
            self._blind_until = now + BLIND_S
        if not pool or now < self._blind_until:
            return
        size = next((max(count_wanted(each), each.max) for each in self._truth.pools if each.name == pool), 0)
        idle = (name for name in self._truth.idle_like(instance) if not self._truth.is_taken_back(name))
        agents = [self._truth.fleet.agents[name] for name in idle]
        found = sum(agent.answers(now) or agent.is_off or agent.boots_at > now for agent in agents)
        if found > size:
            self.fail(OVERFULL, f"{pool}: {found} of {size}")

    def on_change(self, resource: str, change: Change) -> None:
        old, new = change.old, change.new
        if resource == "pods" and new is not None and has_started(new):
            self._seen_started.add(new["metadata"]["uid"])
        if resource != "pods" or old is None or new is None or new["metadata"].get("deletionTimestamp"):
            return
        if is_hostile(new):
            return
        if phase_of(old) in TERMINAL_PHASES or phase_of(new) not in TERMINAL_PHASES:
            return
        agent = self._truth.agent_of(new["metadata"]["uid"])
        if agent is not None and agent.core.runs and not (agent.is_gone or agent.is_off):
            reason = new["status"].get("reason", "")
            self.fail(FAILED_WHILE_RUNNING, f"{new['metadata']['name']} ({reason}) on {agent.instance.instance_id}")

    def on_terminate(self, instance_id: str) -> None:
        """The provider ends an instance."""
        agent = self._truth.fleet.agents.get(instance_id)
        if agent is None or agent.is_gone or not agent.core.runs:
            return
        pod = self._truth.find(agent.core.uid)
        if pod is None or is_hostile(pod):
            return
        if not pod["metadata"].get("deletionTimestamp") and phase_of(pod) not in TERMINAL_PHASES:
            self.fail(ENDED_WHILE_RUNNING, f"{pod['metadata']['name']} on {instance_id}")

    def on_stop(self, instance_id: str) -> None:
        """The provider stops an instance."""
        agent = self._truth.fleet.agents[instance_id]
        pod = self._truth.find(agent.core.uid) if agent.core.uid else None
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
        network = self._truth.network
        if not self._truth.cloud.faults.is_calm:
            self._cloud_calm_since = now
        if not self._truth.has_adopted or not network.faults.is_calm or network.server.admission:
            self._calm_since = now
        if now - self._calm_since < CALM_S:
            self._behind_s.clear()
            return
        for pod in self._truth.pods():
            if is_hostile(pod):
                continue  # it may hurt itself
            self._check_status(pod)
            metadata = pod["metadata"]
            if not metadata.get("deletionTimestamp") or not self._is_known(metadata["uid"], now):
                self._held_s.pop(metadata["uid"], None)
                continue
            held_s = self._held_s[metadata["uid"]] = self._held_s.get(metadata["uid"], 0.0) + CHECK_S
            limit_s = DELETION_LIMIT_S + float(metadata.get("deletionGracePeriodSeconds") or 0)
            if held_s > limit_s and metadata["uid"] not in self._stuck:
                self._stuck.add(metadata["uid"])
                self.fail(DELETION_STUCK, f"{metadata['name']} for {held_s:.0f} s")

    def _is_known(self, uid: str, now: float) -> bool:
        """Whether what runs of the pod can be known: its agent answers, and the cloud does if it is to say which
        instance has the pod."""
        cloud_answers = now - self._cloud_calm_since >= CLOUD_CALM_S
        return self._truth.is_reachable(uid, now) and (cloud_answers or not self._truth.is_looked_for(uid))

    def _check_status(self, pod: Json) -> None:
        """What an agent says over its session is soon in the API server."""
        metadata = pod["metadata"]
        agent = self._truth.agent_of(metadata["uid"])
        told = agent.core.status if agent is not None and agent.channel is not None and not agent.is_gone else None
        if told is None or metadata.get("deletionTimestamp") or essence_of(told) == essence_of(pod["status"]):
            self._behind_s.pop(metadata["uid"], None)
            return
        behind_s = self._behind_s[metadata["uid"]] = self._behind_s.get(metadata["uid"], 0.0) + CHECK_S
        if behind_s > STATUS_LIMIT_S and metadata["uid"] not in self._stuck:
            self._stuck.add(metadata["uid"])
            told_s = f"{essence_of(told)} was told {behind_s:.0f} s ago"
            self.fail(STATUS_MISSING, f"{metadata['name']}: {told_s}, {essence_of(pod['status'])} is stored")


def _is_fault(text: str) -> bool:
    """Whether a line of the log is about an error that nobody has foreseen."""
    if "failed, again in" in text:
        return not any(f": {name}: " in text for name in _EXPECTED)
    return "cannot be handled" in text or "cannot be checked" in text
