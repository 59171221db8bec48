"""Builds the coordinator, or what stands for it where every instance asks the registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.peering.coordinator import PeerCoordinator, PeerLimits, SecretReader
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.pods.peers import NoPeers, PodPeers
from vk_provider.preparing.contents import ImageContents
from vk_provider.settings import ImageSettings


class Peering:
    """peers: for the pods."""

    def __init__(
        self, settings: ImageSettings, contents: ImageContents, secrets: SecretReader, registry: CollectorRegistry
    ) -> None:
        self.peers: PodPeers = NoPeers()
        self._coordinator: PeerCoordinator | None = None
        if settings.peers:
            self.peers = self._coordinator = PeerCoordinator(
                PeerLimits(settings.peer_uploads, settings.peer_min_bytes), contents, secrets, PeerMetrics(registry)
            )

    def start(self, supervisor: Supervisor) -> None:
        if self._coordinator is not None:
            supervisor.start("blobs between instances", self._coordinator.run())

    async def close(self) -> None:
        if self._coordinator is not None:
            await self._coordinator.close()
