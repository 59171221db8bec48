"""What pods ask of whoever lets their instances fetch blobs from each other (peering.coordinator)."""

from __future__ import annotations

from typing import Protocol

from vk_provider.pods.record import PodRecord
from vk_provider.wire.blobs import BlobsMessage


class PodPeers(Protocol):
    """Nothing here blocks or raises."""

    def greet(self, record: PodRecord) -> None:
        """The agent of the pod has greeted, with wire.blobs.PEERS_FEATURE."""

    def receive(self, record: PodRecord, message: BlobsMessage) -> None:
        """The agent of the pod has told its blobs."""

    def leave(self, record: PodRecord) -> None:
        """The session of the pod's agent has ended, or the pod is gone."""


class NoPeers:
    """Every instance asks the registry."""

    def greet(self, record: PodRecord) -> None:
        return

    def receive(self, record: PodRecord, message: BlobsMessage) -> None:
        return

    def leave(self, record: PodRecord) -> None:
        return
