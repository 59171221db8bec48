"""What the provider remembers of one pod while it works on it. Nothing here survives a restart, nothing needs to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from vk_provider.agentclient.session import AgentSession
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Instance, LaunchRequest
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.agent_events import AgentEventRelay
from vk_provider.pods.status_patch import Altered
from vk_provider.wire.session import References


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """A launch as it was sent first. message: why this offering."""

    request: LaunchRequest
    message: str


@dataclass
class PodRecord:
    """One pod, keyed by UID. Times are time.monotonic() unless said otherwise.

    pod:        the API object as last seen; `exists` turns False when the API deleted it
    instance:   what the cloud says of the pod's instance, None while there is none
    status:     the newest PodStatus (agent's, or the provider's own when there is no agent); what is to be published
    finished:   nothing of the pod runs any more
    concluded:  the provider itself said how the pod ended: no agent's word changes that any more
    published:  our fields of the status as the API server holds them (owned_status), at resourceVersion
                 published_version; None while it holds nothing of us. See pods.status_publisher
    altered:    what the API server made of the fields that it does not keep as they were sent (status_patch.Altered)
    refused:    the status that the API server did not accept, so that it is not sent for ever
    redial_at:  not dialed before: its agent broke the protocol; violation_backoff says for how long
    unaccepted_since: since when the API server, which answers, does not take the status; 0.0 while it does
    launching:  asks for the instance, beside the worker
    resolving:  reads what the pod refers to, beside the worker; resolving_for: the generation of that pod
    forgotten:  the controller has let go of the record; whatever still runs for it cleans up after itself
    launch:     the request whose outcome is not known yet; it is repeated as it is, whatever the pod says meanwhile
    fresh:      nothing of the pod can have run on its instance before this process connected to it
    handover_unknown: an earlier process may have given the pod to the agent of this instance without having told
                 the API server: its agent is asked before that is ruled out
    silent_since: since when the agent of a pod that may run is not heard; 0.0 while it is
    not_ready:  the Ready condition that is told instead of the agent's, because it is silent for too long
    ending_since: when the pod was first seen deleted or with a terminal phase; 0.0 before
    ended_by_others: the API got a terminal phase that is not from us: the agent has to stop the pod
    event_relay: the agent's events on their way, once there were any; ack_seq: what is to be acknowledged next
    """

    uid: str
    node: str
    pod: Json
    exists: bool = True
    bound_at: float = 0.0
    start_time: str = ""

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
    ended_by_others: bool = False

    status: Json | None = None
    status_from_agent: bool = False
    finished: bool = False
    concluded: bool = False
    published: Json | None = None
    published_version: int = 0
    altered: Altered = field(default_factory=dict)
    refused: Json | None = None
    unaccepted_since: float = 0.0
    unaccepted_told: bool = False
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
        """The newest phase known: ours when we have one, else the API's. A terminal one is never left."""
        own = str((self.status or {}).get("phase") or "")
        return self.api_phase if not own or self.api_phase in TERMINAL_PHASES else own

    @property
    def has_instance(self) -> bool:
        """An instance that is or may still be there, as far as we know: it runs or costs money."""
        return self.instance is not None and not self.instance.state.is_gone and not self.terminated

    def close_event_relay(self) -> None:
        """The agent that the events came from is not this pod's any more: nothing is acknowledged to another."""
        if self.event_relay is not None:
            self.event_relay.close()
        if self.ack_timer is not None:
            self.ack_timer.cancel()
        self.event_relay, self.ack_seq, self.ack_timer = None, 0, None
