"""Tells the provider which images the pod has, where it wants to know: it has them prepared for pods that follow."""

from __future__ import annotations

from typing import Protocol

from vk_provider.agent.worker.memory import PodMemory
from vk_provider.wire.images import MAX_IMAGES, ImageUse


class ImageSink(Protocol):
    """Sends the list: the session's outbox."""

    def send_images(self, pod_uid: str, images: list[ImageUse]) -> None: ...


class ImageTeller:
    """Collects the images of one pod. Of an image that several containers use, what the first one met counts."""

    def __init__(self, sink: ImageSink, memory: PodMemory) -> None:
        self._sink, self._memory = sink, memory
        self._uses: dict[str, ImageUse] = {}

    def tell(self, use: ImageUse) -> None:
        """The image is there now."""
        known = self._uses.get(use["image"])
        if known is not None and (known["digests"] == use["digests"] or not use["pulled"]):
            return
        if known is None and len(self._uses) >= MAX_IMAGES:
            return
        self._uses[use["image"]] = use
        if self._memory.node.get("tellImages"):
            self._sink.send_images(self._memory.uid, list(self._uses.values()))
