"""The provider's state of one pod, in memory only: `adopt` builds it again after a restart.

A record is made of parts, and each part has one writer; who else wants a change calls a method of the part. What
belongs to the pod's instance is in the instance (instances.instance), which the record points at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from vk_provider.agentclient.session import AgentSession
from vk_provider.agentclient.tables import TableFlow
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Instance
from vk_provider.eventreasons import EventReason
from vk_provider.instances.instance import OwnedInstance, Sent
from vk_provider.jsontypes import Json
from vk_provider.pods.agent_events import AgentEvents
from vk_provider.pods.assignment import Admission, Assignment
from vk_provider.pods.publication import Judgement, Publication
from vk_provider.pods.report import Report
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
class Reading:
    """References of the pod (ConfigMaps, Secrets, tokens, ...). Written by `resolution`.

    task:       reads them; generation: of the pod that they are read for
    references_changed, services_changed: there may be newer ones
    """

    task: asyncio.Future[References] | None = None
    generation: int | None = None
    references_changed: bool = False
    services_changed: bool = False


@dataclass(slots=True, eq=False)
class Deletion:
    """The final DELETE. Written by `deletion`.

    accepted: the API server has taken it, or the object was gone
    due_at:   one that was not accepted is not sent again before (time.monotonic())
    backoff:  from the first one on that was not accepted
    """

    accepted: bool = False
    due_at: float = 0.0
    backoff: Backoff | None = None


@dataclass(slots=True, eq=False)
class Leaving:
    """How far the pod's end has come. Written by `executor`. Times are time.monotonic().

    tell_at: a pod that had a terminal phase at first says no sooner how its containers ended, where that is not known
    """

    stop_sent_at: float = 0.0
    archived: bool = False
    archive_tries: int = 0
    tell_at: float = 0.0
    deletion: Deletion = field(default_factory=Deletion)

    def tell_from(self, moment: float) -> None:
        self.tell_at = moment


@dataclass(slots=True, eq=False)
class PodRecord:
    """One pod, keyed by UID. Written by `controller`, but for its parts. Times are time.monotonic() unless said
    otherwise.

    pod:          the API object as last seen; `exists` turns False when the API deleted it
    start_time:   status.startTime; active_since: the same moment
    ending_since: when the pod was first seen deleted, or with a terminal phase before that; 0.0 before
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
        if self.lost or owned is None:
            return self.lost
        return owned.lost or (owned.own_end if owned.has_booted else "")

    @property
    def boot_failed(self) -> str:
        """Why the pod's instance never will, or did not, run it; "" while it may."""
        owned = self.assignment.owned
        if owned is None:
            return ""
        return owned.boot_failed or ("" if owned.has_booted else owned.own_end)

    def is_wanting(self) -> bool:
        """Whether the pod needs an instance that it does not have."""
        return self.exists and not (self.forgotten or self.report.concluded or self.deleting)

    def see_first(self, first: FirstSight) -> None:
        self.first = first

    def lose(self, reason: str) -> None:
        """It counts as lost, whatever its instance does."""
        self.lost = reason

    def open_events(self, begin: Callable[[], AgentEvents]) -> AgentEvents:
        """Those of its agent; begun with the first."""
        if self.events is None:
            self.events = begin()
        return self.events

    def close_events(self) -> None:
        """Acknowledge no more events: their agent is not this pod's any more."""
        if self.events is not None:
            self.events.close()
            self.events = None


_NOTHING_SENT = Sent()

OnEvent = Callable[[PodRecord, str, EventReason, str], None]
"""(record, event type, reason, message): records an event on the pod."""
