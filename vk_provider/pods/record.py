"""The provider's state of one pod, in memory only: `adopt` builds it again after a restart.

A record is made of parts, and each part has one writer; who else wants a change calls a method of the part. What
belongs to the pod's instance is in the instance (instances.instance), which the record points at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vk_provider.agentclient.session import AgentSession
from vk_provider.agentclient.tables import TableFlow
from vk_provider.cloud.base import Instance
from vk_provider.eventreasons import EventReason
from vk_provider.instances.demand import Demand
from vk_provider.instances.instance import OwnedInstance, Sent
from vk_provider.jsontypes import Json
from vk_provider.pods.agent_events import AgentEvents
from vk_provider.pods.status_patch import Altered
from vk_provider.wire.session import References


@dataclass(frozen=True, slots=True)
class FirstSight:
    """What the API's status said when this process saw the pod first. What it says later is this process's own, or
    another writer's, and not taken from it.

    ended:   phase, reason and message, when the phase was terminal: it is never left, the pod is not started and what
             runs of it is stopped; else None
    started: it showed that an agent had the pod (state.has_started)
    inherited: the pod was there when this process began: an earlier one may have done something for it
    """

    phase: str = "Pending"
    ended: Json | None = None
    started: bool = False
    inherited: bool = False


@dataclass(slots=True, eq=False)
class Admission:
    """Whether the pod was admitted. hold: why it is left without an instance, "" for no reason."""

    admitted: bool = False
    hold: str = ""

    def admit(self, hold: str = "") -> None:
        self.admitted, self.hold = True, hold

    def wait(self, reason: str) -> None:
        """Before or after admission: no launch meanwhile."""
        self.hold = reason

    def go_on(self) -> None:
        self.hold = ""


@dataclass(slots=True, eq=False)
class Assignment:
    """The pod's instance: waited for, or assigned; at most one at a time.

    proof:   asks whether the pod may have the prepared store that would fit, and other facts; `demand` follows
    demand:  the pod waits for an instance
    message: why this instance, for a condition
    attempt: number of the launch for this pod; a failed boot is followed by the next attempt
    """

    owned: OwnedInstance | None = None
    proof: asyncio.Task[None] | None = None
    demand: Demand | None = None
    message: str = ""
    attempt: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether an instance is on its way, or will be asked for."""
        return self.demand is not None or self.proof is not None

    def prove(self, proof: asyncio.Task[None]) -> None:
        self.proof = proof

    def end_proof(self) -> None:
        self.proof = None

    def wait(self, demand: Demand) -> None:
        self.demand = demand

    def see(self, pod: Json) -> None:
        """The pod has changed: the next request is made of it."""
        if self.demand is not None:
            self.demand.pod = pod

    def give_up(self) -> None:
        """No instance is waited for any more."""
        if self.proof is not None:
            self.proof.cancel()
        self.demand = self.proof = None

    def take(self, owned: OwnedInstance, message: str = "") -> None:
        self.owned, self.demand = owned, None
        self.message = message or self.message
        self.attempt = max(self.attempt, owned.attempt)

    def start_over(self) -> None:
        """The instance never booted: nothing of the pod has run on it."""
        self.owned = None
        self.attempt += 1

    def drop(self) -> None:
        """The instance is another pod's."""
        self.owned = None


@dataclass(slots=True, eq=False)
class Report:
    """What is known of the pod's run.

    status:       the newest PodStatus: from the agent, or the provider status
    finished:     nothing of the pod runs any more
    concluded:    `status` is a terminal provider status: statuses from the agent are ignored
    stats:        the newest sample
    silent_since: since when the agent of a pod that may run has sent nothing (time.monotonic()); 0.0 while it is heard
    not_ready:    the Ready condition that replaces the agent's, because it is silent for too long
    """

    status: Json | None = None
    from_agent: bool = False
    finished: bool = False
    concluded: bool = False
    stats: Json | None = None
    silent_since: float = 0.0
    not_ready: Json | None = None

    def take(self, status: Json, *, finished: bool) -> None:
        """The agent's."""
        self.status, self.from_agent, self.finished = status, True, finished

    def provide(self, status: Json | None) -> None:
        """The provider's own, while there is no agent to write one."""
        self.status = status

    def conclude(self, status: Json) -> None:
        """The provider's last word."""
        self.status, self.finished, self.concluded = status, True, True

    def sample(self, stats: Json) -> None:
        self.stats = stats

    def fall_silent(self, now: float) -> None:
        self.silent_since = self.silent_since or now

    def doubt(self, condition: Json) -> None:
        self.not_ready = condition

    def hear(self) -> bool:
        """The agent has said something. Returns whether its Ready condition counts again."""
        self.silent_since = 0.0
        doubted, self.not_ready = self.not_ready is not None, None
        return doubted

    def start_over(self) -> None:
        """Another instance, which nobody has heard of yet."""
        self.silent_since, self.not_ready = 0.0, None


@dataclass(slots=True, eq=False)
class Publication:
    """What the API server holds of the status. Written by status_publisher.

    held:       our fields of the status as the API server holds them (owned_status), at resourceVersion `version`; None
                while it holds none
    altered:    fields that the API server does not store as they were sent (status_patch.Altered)
    refused:    the status that the API server did not accept, so that it is not sent again
    restoring:  another writer has changed the status since it was published; restored_at: when that was last put right
    unaccepted_since: since when the API server, which answers, does not accept the status; 0.0 while it does
    pending_due: when a pod that does not run yet says Pending
    """

    held: Json | None = None
    version: int = 0
    altered: Altered = field(default_factory=dict)
    refused: Json | None = None
    restoring: bool = False
    restored_at: float = 0.0
    unaccepted_since: float = 0.0
    unaccepted_reported: bool = False
    pending_due: float = 0.0
    reached_running: bool = False

    def postpone_pending(self, until: float) -> None:
        self.pending_due = max(self.pending_due, until)

    def set_restoring(self, restoring: bool) -> None:
        """False: what we say has changed, and is published for that."""
        self.restoring = restoring

    def note_running(self) -> None:
        """Running, or more, was published before."""
        self.reached_running = True


@dataclass(slots=True, eq=False)
class Judgement:
    """What state.py has computed and keeps while nothing of it was replaced.

    desired: what `Report.status` and the fields beside it make of it (state.desired_status); desired_of: those fields
    judged:  whether the API server holds the desired status (state.is_current), judged by the fields `judged_by`
    """

    desired: Json | None = None
    desired_of: tuple[Any, ...] = (None, None, None, "")
    judged: bool | None = None
    judged_by: tuple[Any, ...] = ()


@dataclass(slots=True, eq=False)
class Reading:
    """References of the pod (ConfigMaps, Secrets, tokens, ...). Written by resolution.

    task:       reads them; generation: of the pod that they are read for
    references_changed, services_changed: there may be newer ones
    """

    task: asyncio.Task[References] | None = None
    generation: int | None = None
    references_changed: bool = False
    services_changed: bool = False


@dataclass(slots=True, eq=False)
class Leaving:
    """How far the pod's end has come. Written by executor. Times are time.monotonic()."""

    stop_sent_at: float = 0.0
    archived: bool = False
    archive_tries: int = 0
    api_deleted: bool = False


@dataclass(eq=False)
class PodRecord:
    """One pod, keyed by UID. Written by controller, but for its parts. Times are time.monotonic() unless said
    otherwise.

    pod:          the API object as last seen; `exists` turns False when the API deleted it
    start_time:   status.startTime; active_since: the same moment
    ending_since: when the pod was first seen deleted or with a terminal phase; 0.0 before
    forgotten:    the controller has removed the record; tasks that still run for it clean up after themselves
    lost:         why the pod counts as lost although its instance does not say so (OwnedInstance.lost)
    """

    uid: str
    node: str
    pod: Json
    exists: bool = True
    bound_at: float = 0.0
    start_time: str = ""
    active_since: float = 0.0
    ending_since: float = 0.0
    forgotten: bool = False
    lost: str = ""
    first: FirstSight = FirstSight()
    admission: Admission = field(default_factory=Admission)
    assignment: Assignment = field(default_factory=Assignment)
    report: Report = field(default_factory=Report)
    publication: Publication = field(default_factory=Publication)
    judgement: Judgement = field(default_factory=Judgement)
    reading: Reading = field(default_factory=Reading)
    leaving: Leaving = field(default_factory=Leaving)
    events: AgentEvents | None = None

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def deleting(self) -> bool:
        return bool(self.pod["metadata"].get("deletionTimestamp"))

    @property
    def api_phase(self) -> str:
        return str((self.pod.get("status") or {}).get("phase") or "Pending")

    @property
    def phase(self) -> str:
        """The newest phase known: of the report, or the first one of the API."""
        if self.first.ended is not None:
            return self.first.phase
        return str((self.report.status or {}).get("phase") or self.first.phase)

    @property
    def owned(self) -> OwnedInstance | None:
        return self.assignment.owned

    @property
    def instance(self) -> Instance | None:
        """The pod's instance as the cloud described it, None while there is none."""
        owned = self.assignment.owned
        return owned.described if owned is not None else None

    @property
    def has_instance(self) -> bool:
        """Whether an instance exists or may exist: it runs or costs money."""
        owned = self.assignment.owned
        return owned is not None and owned.is_live

    @property
    def session(self) -> AgentSession | None:
        owned = self.assignment.owned
        return owned.link.session if owned is not None else None

    @property
    def sent(self) -> Sent:
        """What the agent has; nothing while there is no instance."""
        owned = self.assignment.owned
        return owned.sent if owned is not None else _NOTHING_SENT

    @property
    def tables(self) -> list[TableFlow]:
        owned = self.assignment.owned
        return owned.tables if owned is not None else []

    @property
    def loss(self) -> str:
        """Why the pod counts as lost, "" while it does not."""
        owned = self.assignment.owned
        return self.lost or (owned.lost if owned is not None else "")

    @property
    def boot_failed(self) -> str:
        owned = self.assignment.owned
        return owned.boot_failed if owned is not None else ""

    def is_wanting(self) -> bool:
        """Whether the pod needs an instance that it does not have."""
        return self.exists and not (self.forgotten or self.report.concluded or self.deleting)

    def lose(self, reason: str) -> None:
        """It counts as lost, whatever its instance does."""
        self.lost = reason

    def close_events(self) -> None:
        """Acknowledge no more events: their agent is not this pod's any more."""
        if self.events is not None:
            self.events.close()
            self.events = None


_NOTHING_SENT = Sent()

OnEvent = Callable[[PodRecord, str, EventReason, str], None]
"""(record, event type, reason, message): records an event on the pod."""
