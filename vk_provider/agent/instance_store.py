"""What the boot has made of the instance's own disks (manifests/aws/instance-store.sh) and of prepared images
(image-store.sh): the pod's owner hears of a failure."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, Protocol

from vk_provider import eventreasons
from vk_provider.eventreasons import EventReason

log = logging.getLogger(__name__)

FAILED: Final = "failed: "
MAX_CHARACTERS: Final = 300


class EventSink(Protocol):
    """The session's outbox."""

    def send_event(
        self, pod_uid: str, event_type: str, reason: EventReason, message: str, field_path: str = ""
    ) -> None: ...


class InstanceStoreReport:
    """path, images: of the files whose first lines say what was done with the disks and with the prepared images; they
    are not there on an image without."""

    def __init__(self, path: Path, images: Path, sink: EventSink) -> None:
        self._path, self._images, self._sink = path, images, sink

    def tell(self, pod_uid: str) -> None:
        """The pod has come: an event, if it is not where it should be."""
        failure = read_failure(self._path)
        if failure:
            text = f"The instance's own disks are not used, images and volumes are on its root volume: {failure}"
            log.error("%s", text)
            self._sink.send_event(pod_uid, "Warning", eventreasons.INSTANCE_STORE_UNAVAILABLE, text)
        failure = read_failure(self._images)
        if failure:
            text = f"The images that are prepared for the pod are not used, it pulls them: {failure}"
            log.error("%s", text)
            self._sink.send_event(pod_uid, "Warning", eventreasons.IMAGES_NOT_PREPARED, text)


def read_failure(path: Path) -> str:
    """Why the disks are not used though they should be; "" where all is well. A few bytes in a memory file system."""
    try:
        with path.open(errors="replace") as file:
            line = file.readline(MAX_CHARACTERS).strip()
    except OSError:
        return ""
    return line.removeprefix(FAILED) if line.startswith(FAILED) else ""
