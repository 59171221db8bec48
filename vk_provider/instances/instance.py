"""One instance of ours, and everything that belongs to it: a pod's record points at it, and starting over is to point
at another.

launching (only a call so far) -> booting -> idle -> assigned to one pod UID -> ending -> gone
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vk_provider.agentclient.session import AgentSession, Allowance
from vk_provider.agentclient.tables import TableFlow
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import (
    TAG_ATTEMPT,
    TAG_GROUP,
    TAG_IMAGE_STORE,
    TAG_NODE,
    TAG_POD_NAMESPACE,
    TAG_POD_UID,
    TAG_POOL,
    Instance,
)
from vk_provider.jsontypes import Json
from vk_provider.wire.session import References


class Stage(StrEnum):
    """STOPPED: of a stopped pool, and nobody's (see Rest)."""

    BOOTING = "booting"
    IDLE = "idle"
    STOPPED = "stopped"
    ASSIGNED = "assigned"
    ENDING = "ending"
    GONE = "gone"


class Rest(StrEnum):
    """What we have asked of an instance that nobody has. STOPPING: to stop; STOPPED: it did, and may be started;
    STARTING: to start, for a pod that waits for it."""

    NONE = ""
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"


@dataclass(slots=True, eq=False)
class Link:
    """The way to the agent. Written by `links`. Times are time.monotonic().

    task:      dials, and holds the session; previous: one that was closed and has not ended yet
    sessions:  how many there were
    fate_due:  when the cloud is asked next about an instance whose agent does not answer
    allowance: what may still be read of its agent, over all sessions
    redial_at: earliest time to dial: not before the allowance is full again; after a violation, by violation_backoff
    """

    task: asyncio.Task[None] | None = None
    previous: asyncio.Task[None] | None = None
    session: AgentSession | None = None
    ever_connected: bool = False
    sessions: int = 0
    fate_due: float = 0.0
    redial_at: float = 0.0
    violation_backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))
    allowance: Allowance = field(default_factory=lambda: Allowance(time.monotonic()))


@dataclass(frozen=True, slots=True)
class Interruption:
    """The cloud takes the instance back. at: when, by time.monotonic(); begun: its pod is to stop now."""

    message: str
    at: float
    begun: bool = False


@dataclass(slots=True, eq=False)
class Sent:
    """What the agent was sent in this session. Written by `sending`, in pods.

    fingerprint: of the pod (pods.state.compute_fingerprint); None before
    services:    of the pod's environment
    stopped:     the pod is to stop, since the instance is taken back
    """

    fingerprint: Any = None
    references: References | None = None
    services: list[Json] | None = None
    stopped: bool = False


@dataclass(slots=True, eq=False)
class OwnedInstance:
    """described: as the cloud described it last (written by `table`)
    fresh:       nothing of a pod can have run on it before this process connected to it (written by `supply`)
    pod_uid:     the pod that it serves, "" for none (written by `supply`)
    said_uid:    the pod that its agent named in its last greeting; None before the first (written by `supply`)
    granted_uid: the pod that its agent has shown a grant for (written by `supply`)
    sent_uid:    the pod that this process has sent to it, in whatever session (written by `sending`, in pods)
    unmarked:    it was taken from a pool, and its tags do not say so yet: nothing is sent to it (written by `tagging`)
    handover_unknown: an earlier process may have given the pod to the agent without having published it: the agent is
                 asked (written by `supply`)
    lost:        it is gone, and its pod may have run on it (written by `links`)
    boot_failed: it never booted, or was gone before (written by `links`)
    ended:       it is to be terminated, or was (written by `ends`)
    rest:        see Rest (written by `standby`)
    interruption: announced, by the cloud or by its agent (written by `interruptions`)
    link:        see Link (written by `links`)
    sent:        see Sent (written by `sending`, in pods, with each session)
    tables:      the tables that this session is sent (written by `tables`, in pods)
    """

    described: Instance
    fresh: bool = True
    pod_uid: str = ""
    said_uid: str | None = None
    granted_uid: str = ""
    sent_uid: str = ""
    unmarked: bool = False
    handover_unknown: bool = False
    lost: str = ""
    boot_failed: str = ""
    ended: bool = False
    rest: Rest = Rest.NONE
    interruption: Interruption | None = None
    link: Link = field(default_factory=Link)
    sent: Sent = field(default_factory=Sent)
    tables: list[TableFlow] = field(default_factory=list)

    @property
    def instance_id(self) -> str:
        return self.described.instance_id

    @property
    def group(self) -> str:
        return self.described.tags.get(TAG_GROUP, "")

    @property
    def node(self) -> str:
        return self.described.tags.get(TAG_NODE, "")

    @property
    def namespace(self) -> str:
        return self.described.tags.get(TAG_POD_NAMESPACE, "")

    @property
    def pool(self) -> str:
        """The pool that it was launched for, "" for none."""
        return self.described.tags.get(TAG_POOL, "")

    @property
    def image_store(self) -> str:
        """Handle of the prepared store that it was launched with, if it was for a pool; "" for none."""
        return self.described.tags.get(TAG_IMAGE_STORE, "")

    @property
    def is_for_anybody(self) -> bool:
        """Whether no namespace is known that it has served, or was launched for."""
        return bool(self.pool) and not self.namespace

    def proves(self, uid: str, namespace: str, node: str) -> bool:
        """Whether the provider has given it to the pod: its agent has shown the grant, or its tags name the pod. What
        was launched for another namespace or Node never has."""
        if self.node != node or (self.namespace != namespace and not self.pool):
            return False
        return self.granted_uid == uid or self.described.tags.get(TAG_POD_UID) == uid

    @property
    def attempt(self) -> int:
        """By its tag; 0 for none."""
        text = self.described.tags.get(TAG_ATTEMPT, "")
        return int(text) if text.isdecimal() else 0

    @property
    def is_live(self) -> bool:
        """Whether it exists or may exist: it runs or costs money, and nobody has asked for its end. While its agent
        speaks, it does, whatever a listing says."""
        return not self.ended and not (self.described.state.is_terminated and self.link.session is None)

    @property
    def own_end(self) -> str:
        """How it has ended by itself, as the cloud says, "" while it has not. Its link, which says what that means for
        its pod, may notice later."""
        if self.ended or self.link.session is not None or not self.described.state.is_terminated:
            return ""
        return describe_end(self.described)

    @property
    def has_booted(self) -> bool:
        """Whether its agent answered, or it was adopted with a pod that had started."""
        return self.link.ever_connected or not self.fresh

    @property
    def is_idle(self) -> bool:
        """Whether its agent has said in this session that it is empty, and nobody has it."""
        return self.stage is Stage.IDLE

    @property
    def stage(self) -> Stage:
        state = self.described.state
        if state.is_terminated or (state.has_stopped and not self.rest) or self.lost:
            return Stage.GONE
        if self.ended or state.is_terminating or self.boot_failed:
            return Stage.ENDING
        if self.rest:
            return Stage.STOPPED
        if self.pod_uid or self.said_uid:
            return Stage.ASSIGNED
        return Stage.IDLE if self.said_uid == "" else Stage.BOOTING


def describe_end(instance: Instance) -> str:
    """For people: its state, and the cloud's reason where it says one."""
    reason = f": {instance.state_reason}" if instance.state_reason else ""
    return f"instance {instance.instance_id} is {instance.state}{reason}"
