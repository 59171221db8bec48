"""Relays an agent's events to the API server and the acknowledgements back.

The agent keeps an event, also over its own restarts, until it is acknowledged, and sends all others again when a
session begins. So an event is acknowledged only when the API server has it or it was dropped (EventRecorder.record
lists the cases). Events that this process had not posted when it ended are thus sent to the next one; events that were
posted but not acknowledged get the same name again, which the API server refuses as existing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial

from vk_provider import eventreasons
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json, share_text
from vk_provider.kube.recorder import EventRecorder, Occurrence
from vk_provider.wire.session import EventMessage

IN_FLIGHT_LIMIT = 500
"""Events of one pod whose posting is tracked: as many as an agent keeps. Further ones are recorded, too, but
acknowledged with the tracked ones before them: the memory per pod stays bounded, and only a crash may lose some."""

NO_KUBELETS = frozenset(
    {
        eventreasons.IMAGE_FETCHED,
        eventreasons.IMAGE_PULL_PROGRESS,
        eventreasons.INSTANCE_STORE_UNAVAILABLE,
        eventreasons.POD_IDENTITY_UNAVAILABLE,
    }
)
"""Reasons of agents that no kubelet has. They are of this provider's own source, as those that it says itself
(pods.events), so that none of a kubelet's is dropped because of them."""
MAX_OF_PROVIDER = 10
"""Such events of one agent that use up limits of the provider's own source, fewer than it has (correlator.SPAM_BURST):
an agent may be its pod's, and must not keep back what the provider has to say. Further ones are a kubelet's."""

ACK_DELAY_S = 0.5
KUBELET, COMPONENT = "kubelet", "vk-provider"
"""Sources of events: of those that a kubelet has, and of those that no kubelet has. Each has limits of its own
(correlator): no kubelet's event is dropped because of what is said about the instance."""


class AgentEventRelay:
    """The events of one pod's agent. `acknowledge(seq)` is called when all events up to `seq` are done.

    It is called again with the same number when events are repeated, as the acknowledgement was lost with a session.
    """

    __slots__ = ("_acknowledge", "_of_provider", "_open", "_recorder", "_taken")

    def __init__(self, recorder: EventRecorder, acknowledge: Callable[[int], None]) -> None:
        self._recorder = recorder
        self._acknowledge = acknowledge
        self._taken = self._of_provider = 0
        self._open: dict[int, None] = {}  # in ascending order

    @property
    def done_seq(self) -> int:
        """The highest number up to which all received events are done; 0 at the start."""
        return next(iter(self._open)) - 1 if self._open else self._taken

    def receive(self, involved: Json, node: str, message: EventMessage) -> None:
        """Record an event about the pod `involved` (ObjectReference) of `node`; the caller has checked the podUID."""
        seq = message["seq"]
        if seq <= self._taken:
            if seq <= self.done_seq:
                self._acknowledge_done()
            return
        self._taken = seq
        tracked = len(self._open) < IN_FLIGHT_LIMIT
        if tracked:
            self._open[seq] = None
        is_of_provider = message["reason"] in NO_KUBELETS and self._of_provider < MAX_OF_PROVIDER
        self._of_provider += is_of_provider
        self._recorder.record(
            involved,
            message["eventType"],
            # Of any version of the agent. What equal events are known by is kept for long, once for all pods.
            EventReason(share_text(message["reason"])),
            message["message"],
            share_text(message["fieldPath"]),
            host=node,
            component=COMPONENT if is_of_provider else KUBELET,
            occurrence=Occurrence(
                share_text(message["timestamp"]),
                message.get("count", 1),
                _name_suffix(involved["uid"], seq),
                partial(self._done, seq) if tracked else None,
            ),
        )

    def close(self) -> None:
        """Acknowledge nothing any more: the agent is gone or was replaced. Events that still wait to be posted keep the
        relay, and nothing that it reached: thousands may wait behind a burst, and their pods are gone."""
        self._acknowledge = _acknowledge_nothing

    def _done(self, seq: int) -> None:
        before = self.done_seq
        del self._open[seq]
        if self.done_seq > before:
            self._acknowledge_done()

    def _acknowledge_done(self) -> None:
        if self.done_seq:
            self._acknowledge(self.done_seq)


class AgentEvents:
    """The events of one pod's agent, and their acknowledgement: after a short delay, for several at once.

    acknowledge: sends it, if there is a session
    """

    __slots__ = ("_send", "_seq", "_timer", "relay")

    def __init__(self, recorder: EventRecorder, acknowledge: Callable[[int], None]) -> None:
        self.relay = AgentEventRelay(recorder, self._note)
        self._send = acknowledge
        self._seq = 0
        self._timer: asyncio.TimerHandle | None = None

    def _note(self, seq: int) -> None:
        self._seq = seq
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ACK_DELAY_S, self._acknowledge)

    def _acknowledge(self) -> None:
        self._timer = None
        self._send(self._seq)

    def close(self) -> None:
        """Acknowledge nothing any more."""
        self.relay.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _acknowledge_nothing(seq: int) -> None:
    """The agent is gone or was replaced."""


def _name_suffix(pod_uid: str, seq: int) -> str:
    """Suffix of the Event's name, from podUID and seq: 16 hexadecimal digits, as in a kubelet's events."""
    return hashlib.blake2b(f"{pod_uid}/{seq}".encode(), digest_size=8).hexdigest()
