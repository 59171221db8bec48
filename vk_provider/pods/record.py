"""The provider's state of one pod, in memory only: `adopt` builds it again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vk_provider.agentclient.session import AgentSession
from vk_provider.agentclient.tables import TableFlow
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Instance, LaunchRequest
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.pods.agent_events import AgentEventRelay
from vk_provider.pods.status_patch import Altered
from vk_provider.wire.session import References


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """A launch request that is repeated unchanged. message: the reason of the chosen offering."""

    request: LaunchRequest
    message: str


@dataclass
class PodRecord:
    """One pod, keyed by UID. Times are time.monotonic() unless said otherwise.

    pod:        the API object as last seen; `exists` turns False when the API deleted it
    instance:   the pod's instance as the cloud described it, None while there is none
    first_phase: phase of the API when this process saw the pod first, as first_ended and first_started. Later ones are
                 not taken from the API: they are this process's own or another writer's
    first_ended: phase, reason and message, when the phase was terminal: it is never left, the pod is not started and
                 what runs of it is stopped; else None
    first_started: the status showed that an agent had the pod (state.has_started)
    status:     the newest PodStatus: from the agent, or the provider status
    finished:   nothing of the pod runs any more
    concluded:  `status` is a terminal provider status: statuses from the agent are ignored
    desired:    what `status` and the fields beside it make of it (state.desired_status); desired_of: those fields, then
    judged:     whether the API server holds the desired status (state.is_current), judged by the fields `judged_by`
    published:  our fields of the status as the API server holds them (owned_status), at resourceVersion
                 published_version; None while it holds none. See pods.status_publisher
    altered:    fields that the API server does not store as they were sent (status_patch.Altered)
    refused:    the status that the API server did not accept, so that it is not sent again
    sent_services: the Services of its environment that the agent has; services_changed: there may be newer ones
    tables:     the tables that this session is sent (pods.tables)
    redial_at:  earliest time to dial after a violation, by violation_backoff
    unaccepted_since: since when the API server, which answers, does not accept the status; 0.0 while it does
    launching:  task that launches the instance
    resolving:  task that reads the references; resolving_for: the generation of that pod
    forgotten:  the controller has removed the record; tasks that still run for it clean up after themselves
    launch:     the request whose outcome is not known yet; it is repeated unchanged
    fresh:      nothing of the pod can have run on its instance before this process connected to it
    handover_unknown: an earlier process may have given the pod to the agent of this instance without having
                 published it: the agent is asked
    silent_since: since when the agent of a pod that may run has sent nothing; 0.0 while it is heard
    not_ready:  the Ready condition that replaces the agent's, because it is silent for too long
    ending_since: when the pod was first seen deleted or with a terminal phase; 0.0 before
    restoring:  another writer has changed the status since it was published; restored_at: when that was last put right
    event_relay: relays the agent's events, None before the first one; ack_seq: the next acknowledgement
    """

    uid: str
    node: str
    pod: Json
    exists: bool = True
    bound_at: float = 0.0
    start_time: str = ""
    first_phase: str = "Pending"
    first_ended: Json | None = None
    first_started: bool = False

    admitted: bool = False
    hold: str = ""
    selection_message: str = ""

    attempt: int = 0
    launched_at: float = 0.0
    launch: PendingLaunch | None = None
    fresh: bool = False
    instance: Instance | None = None
    lost: str = ""
    boot_failed: str = ""
    terminated: bool = False

    connection: asyncio.Task[None] | None = None
    session: AgentSession | None = None
    ever_connected: bool = False
    sent_fingerprint: Any = None
    sent_references: References | None = None
    references_changed: bool = False
    sent_services: list[Json] | None = None
    services_changed: bool = False
    tables: list[TableFlow] = field(default_factory=list)
    redial_at: float = 0.0
    violation_backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))
    launching: asyncio.Task[None] | None = None
    resolving: asyncio.Task[References] | None = None
    resolving_for: int | None = None
    forgotten: bool = False
    stop_sent_at: float = 0.0
    handover_unknown: bool = False
    silent_since: float = 0.0
    not_ready: Json | None = None
    ending_since: float = 0.0

    status: Json | None = None
    status_from_agent: bool = False
    desired: Json | None = None
    desired_of: tuple[Any, ...] = (None, None, None, "")
    judged: bool | None = None
    judged_by: tuple[Any, ...] = ()
    finished: bool = False
    concluded: bool = False
    published: Json | None = None
    published_version: int = 0
    altered: Altered = field(default_factory=dict)
    refused: Json | None = None
    restoring: bool = False
    restored_at: float = 0.0
    unaccepted_since: float = 0.0
    unaccepted_reported: bool = False
    pending_due: float = 0.0
    reached_running: bool = False
    archived: bool = False
    archive_tries: int = 0
    api_deleted: bool = False
    stats: Json | None = None
    event_relay: AgentEventRelay | None = None
    ack_seq: int = 0
    ack_timer: asyncio.TimerHandle | None = None

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
        """The newest phase known: of `status`, or the first one of the API."""
        if self.first_ended is not None:
            return self.first_phase
        return str((self.status or {}).get("phase") or self.first_phase)

    @property
    def has_instance(self) -> bool:
        """Whether an instance exists or may exist: it runs or costs money."""
        return self.instance is not None and not self.instance.state.is_terminated and not self.terminated

    def close_event_relay(self) -> None:
        """Acknowledge no more events: their agent is not this pod's any more."""
        if self.event_relay is not None:
            self.event_relay.close()
        if self.ack_timer is not None:
            self.ack_timer.cancel()
        self.event_relay, self.ack_seq, self.ack_timer = None, 0, None


OnEvent = Callable[[PodRecord, str, EventReason, str], None]
"""(record, event type, reason, message): records an event on the pod."""
