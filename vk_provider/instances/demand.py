"""What a pod needs of this room, and what the room says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from vk_provider.aiokit.backoff import Backoff
from vk_provider.eventreasons import EventReason
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.sizing.requirement import NOTHING_GIVEN, Given
from vk_provider.sizing.selection import Selection
from vk_provider.wire.session import UpMessage


@dataclass(slots=True, eq=False)
class Demand:
    """One pod that waits for an instance.

    priority:    of its PriorityClass; since: time.monotonic() of its bind; attempt: number of the launch for this pod
    inherited:   an earlier process may have launched for it, too
    image_store: handle of the prepared store that the pod may have, "" for none; `launches` writes it for another try
    given:       what is known of the pod beside its object
    steady_cpu_milli: what the pod is expected to use all the time (sizing.need); written as it joins
    called_at:   time.monotonic() of the first call; this and the rest is written by `launches`
    """

    uid: str
    namespace: str
    name: str
    node: str
    pod: Json
    attempt: int = 0
    priority: int = 0
    since: float = 0.0
    inherited: bool = False
    image_store: str = ""
    given: Given = NOTHING_GIVEN
    steady_cpu_milli: int = 0
    called_at: float = 0.0
    group: Group | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(0.2, 30.0))

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sort key: who is served first."""
        return -self.priority, self.since, self.uid


@dataclass(slots=True, eq=False)
class Group:
    """Demands that one launch request serves: equal in all that goes into it. Written by `launches`.

    digest:    TAG_GROUP: of what was asked for, whatever is available at the moment, and of image_store: an instance
               that has a store is for nobody who may not have it
    in_flight: instances asked for in calls whose outcome is not known yet
    keys:      under which `launches` finds it
    """

    node: str
    namespace: str
    labels: Mapping[str, str]
    selection: Selection
    shared_host_paths: tuple[str, ...]
    digest: str
    image_store: str = ""
    waiting: dict[str, Demand] = field(default_factory=dict)
    in_flight: int = 0
    keys: list[Any] = field(default_factory=list)

    def ranked(self) -> list[Demand]:
        """Who waits, those first that are served first."""
        return sorted(self.waiting.values(), key=lambda demand: demand.rank)


class Claim(StrEnum):
    """What becomes of the word of an agent, whose instance is nobody's, that it has a pod."""

    TAKEN = "it is that pod's"
    UNPROVED = "the pod waits for an instance, and nothing proves that it was given this one"
    NOT_WAITING = "the pod is not known here, or has another instance"


class PodSide(Protocol):
    """What this room tells `pods`. Nothing may block; an exception is a fault of that one pod or session."""

    def is_waiting(self, uid: str) -> bool:
        """Whether the pod still needs an instance."""

    def find_pod(self, uid: str) -> Json | None:
        """The API pod, None when it is not known."""

    def on_assigned(self, uid: str, owned: OwnedInstance, message: str) -> None:
        """The instance is the pod's now. message: why this one."""

    def on_refused(self, uid: str, reason: EventReason, message: str) -> None:
        """No instance will ever be had for the pod."""

    def on_trouble(self, uid: str, event_type: str, reason: EventReason, message: str) -> None:
        """An event about the pod: it waits on."""

    def choose_store(self, uid: str, before: str) -> str:
        """Demand.image_store for another try; before: that of the last one, which the pod may have."""

    def claim(self, uid: str, owned: OwnedInstance) -> Claim:
        """The agent of an instance that is nobody's says that it has this pod."""

    def on_other_pod(self, owned: OwnedInstance, uid: str) -> None:
        """The agent of an assigned instance says that it has the pod `uid` instead."""

    def on_message(self, owned: OwnedInstance, message: UpMessage) -> None:
        """Of the agent of an assigned instance. Raises AgentProtocolError for what no agent of it can say."""

    def on_marked(self, owned: OwnedInstance) -> None:
        """Its tags say whose it is: the pod may be sent."""

    def on_connected(self, owned: OwnedInstance) -> None:
        """A session has begun; the greeting follows."""

    def on_disconnected(self, owned: OwnedInstance) -> None: ...

    def on_violation(self, owned: OwnedInstance, message: str) -> None:
        """The agent broke the protocol: that session was ended."""

    def on_fate(self, owned: OwnedInstance) -> None:
        """`lost` or `boot_failed` is set, the link has ended for another reason, or an interruption has begun."""

    def on_interruption(self, owned: OwnedInstance, message: str) -> None:
        """The cloud will take the instance back, or may: an event. `on_fate` follows when the pod is to stop."""
