"""Events about the pod, in the kubelet's words. Repetitions of the same text are held back for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_QUIET_S = 5.0


class EventSink(Protocol):
    """What takes events: the session's outbox."""

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None: ...


class Recorder:
    """Records events of one pod."""

    def __init__(self, sink: EventSink, pod_uid: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._pod_uid = pod_uid
        self._clock = clock
        self._last: dict[tuple[str, str, str], float] = {}

    def note(self, reason: str, message: str, field_path: str = "") -> None:
        """A Normal event."""
        self._record("Normal", reason, message, field_path)

    def warn(self, reason: str, message: str, field_path: str = "") -> None:
        """A Warning event."""
        self._record("Warning", reason, message, field_path)

    def _record(self, event_type: str, reason: str, message: str, field_path: str) -> None:
        key = (reason, message, field_path)
        now = self._clock()
        if event_type == "Warning":
            if now - self._last.get(key, -_QUIET_S) < _QUIET_S:
                return
            if len(self._last) > 500:
                self._last.clear()
            self._last[key] = now
        self._sink.send_event(self._pod_uid, event_type, reason, message, field_path)
