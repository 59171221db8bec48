"""The way of an agent's events to the API server, and of the acknowledgements back.

The agent keeps an event, also over its own restarts, until it is acknowledged, and repeats what is not when a session
begins. So an acknowledgement says that the event has arrived: the API server has it, or it was given up on purpose
(EventRecorder.record lists the cases). What this process had not posted when it died is thus repeated to the next one;
what it had posted but not acknowledged carries the same name again and is found to exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from vk_provider.jsontypes import Json
from vk_provider.kube.recorder import EventRecorder
from vk_provider.wire.session import EventMessage

IN_FLIGHT_LIMIT = 500
"""Events of one pod that are followed to the API server: as many as an agent keeps. Beyond that they are recorded as
ever, and acknowledged as soon as the followed ones before them are: the memory for a pod stays bounded, and only a
crash just then loses some."""


class AgentEventRelay:
    """One pod's agent. `acknowledge(seq)`: all events up to `seq` are done, and none beyond that is known to be.

    It is called again with the same number when events are repeated: the acknowledgement was lost with a session.
    """

    def __init__(self, recorder: EventRecorder, acknowledge: Callable[[int], None]) -> None:
        self._recorder = recorder
        self._acknowledge = acknowledge
        self._taken = 0
        self._open: dict[int, None] = {}  # in rising order
        self._closed = False

    @property
    def done_seq(self) -> int:
        """The highest number up to which everything taken is done; 0 before any."""
        return next(iter(self._open)) - 1 if self._open else self._taken

    def receive(self, involved: Json, node: str, message: EventMessage) -> None:
        """An event about the pod `involved` (ObjectReference) of `node`; that it is about that pod is known."""
        seq = message["seq"]
        if seq <= self._taken:
            if seq <= self.done_seq:
                self._tell()
            return
        self._taken = seq
        followed = len(self._open) < IN_FLIGHT_LIMIT
        if followed:
            self._open[seq] = None
        self._recorder.record(
            involved,
            message["eventType"],
            message["reason"],
            message["message"],
            message["fieldPath"],
            host=node,
            timestamp=message["timestamp"],
            count=message.get("count", 1),
            name_suffix=_name_suffix(involved["uid"], seq),
            on_done=partial(self._done, seq) if followed else None,
        )

    def close(self) -> None:
        """The agent is gone, or another one has its place: nothing is acknowledged any more."""
        self._closed = True

    def _done(self, seq: int) -> None:
        before = self.done_seq
        del self._open[seq]
        if self.done_seq > before:
            self._tell()

    def _tell(self) -> None:
        if not self._closed and self.done_seq:
            self._acknowledge(self.done_seq)


def _name_suffix(pod_uid: str, seq: int) -> str:
    """podUID and seq name the event; 16 hexadecimal digits, as in the names that a kubelet gives."""
    return hashlib.blake2b(f"{pod_uid}/{seq}".encode(), digest_size=8).hexdigest()
