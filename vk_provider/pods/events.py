"""Events on pods that this provider records by itself."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.recorder import EventRecorder
from vk_provider.pods.agent_events import COMPONENT
from vk_provider.pods.record import PodRecord


class PodEvents:
    """`record` is a record.OnEvent."""

    def __init__(self, recorder: EventRecorder) -> None:
        self.recorder = recorder

    def record(
        self, record: PodRecord, event_type: str, reason: EventReason, message: str, component: str = COMPONENT
    ) -> None:
        """component: its source."""
        self.recorder.record(involved(record.pod), event_type, reason, message, host=record.node, component=component)

    def warn_later(self, record: PodRecord, reason: EventReason) -> Callable[[str], None]:
        """Records a warning with the message that it is called with. It holds nothing of the pod but its name."""
        about, node = involved(record.pod), record.node
        return lambda message: self.recorder.record(about, "Warning", reason, message, host=node, component=COMPONENT)


def involved(pod: Json) -> Json:
    """involvedObject of an event about the pod."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
