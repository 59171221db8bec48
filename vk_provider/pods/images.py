"""What pods ask of whoever has images ready for them (preparing.ImagePreparer)."""

from __future__ import annotations

from typing import Protocol

from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.wire.images import ImagesMessage


class PodImages(Protocol):
    """tells: whether agents are asked for ImagesMessage."""

    @property
    def tells(self) -> bool: ...

    def receive(self, record: PodRecord, message: ImagesMessage) -> None:
        """The agent of the pod has told its images."""

    def forget(self, record: PodRecord) -> None:
        """The pod is gone."""

    def choose(self, pod: Json) -> str | None:
        """LaunchRequest.image_store of the pod, "" for none; None when it must be proved first that it may have it."""

    async def prove(self, pod: Json) -> str:
        """The same once that is known, after a short time at most; never raises."""


class NoImages:
    """For a cloud that cannot have images ready."""

    tells = False

    def receive(self, record: PodRecord, message: ImagesMessage) -> None:
        return

    def forget(self, record: PodRecord) -> None:
        return

    def choose(self, pod: Json) -> str | None:
        return ""

    async def prove(self, pod: Json) -> str:
        return ""
