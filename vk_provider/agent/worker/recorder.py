"""Events about the pod, with the kubelet's texts. Every occurrence is recorded; outbox and provider count them."""

from __future__ import annotations

from typing import Protocol

from vk_provider.eventreasons import EventReason


class EventSink(Protocol):
    """Sends events: the session's outbox."""

    def send_event(
        self, pod_uid: str, event_type: str, reason: EventReason, message: str, field_path: str = ""
    ) -> None: ...


class Recorder:
    """Records events of one pod."""

    def __init__(self, sink: EventSink, pod_uid: str) -> None:
        self._sink = sink
        self._pod_uid = pod_uid

    def note(self, reason: EventReason, message: str, field_path: str = "") -> None:
        """A Normal event."""
        self._sink.send_event(self._pod_uid, "Normal", reason, message, field_path)

    def warn(self, reason: EventReason, message: str, field_path: str = "") -> None:
        """A Warning event."""
        self._sink.send_event(self._pod_uid, "Warning", reason, message, field_path)
