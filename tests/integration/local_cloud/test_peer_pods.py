"""Pods of one new image on real instances: their containerds fetch it from each other, through real agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.integration.local_cloud.test_prepared_pods import World, busybox
from tests.listener import Listener
from tests.password_registry import Image, PasswordRegistry
from vk_provider.cloud.base import Instance
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.peering.coordinator import PeerCoordinator, PeerLimits
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.contents import ImageContents
from vk_provider.wire.blobs import PEERS_FEATURE

__all__ = ["busybox"]

pytestmark = pytest.mark.real


class PeerWorld(World):
    """With the coordinator, which hears what agents tell."""

    image_peers = True

    def __init__(self, cloud: LocalCloud, registry: PasswordRegistry) -> None:
        super().__init__(cloud, registry)
        self.authority = PullAuthority(self.client)
        self.coordinator = PeerCoordinator(
            PeerLimits(2), ImageContents(self.authority), self.secrets, PeerMetrics(CollectorRegistry())
        )

    async def _dial(self, instance: Instance) -> Listener:
        """The coordinator hears the agent before it has its pod, as in the provider."""
        listener = await super()._dial(instance)
        await listener.wait_for(lambda message: message["type"] == "hello")
        (record,) = (each for each in self.records if each.instance == instance)
        assert record.owned is not None and listener.session.has(PEERS_FEATURE)
        record.owned.link.session = listener.session
        self.coordinator.greet(record)
        listener.hear = lambda message: self._hear(record, message)
        return listener

    def _hear(self, record: PodRecord, message: Any) -> None:
        if message["type"] == "blobs":
            self.coordinator.receive(record, message)

    async def close(self) -> None:
        await self.coordinator.close()
        await self.authority.close()
        await super().close()


@pytest.fixture
async def world(cloud: LocalCloud, busybox: Image) -> AsyncIterator[PeerWorld]:
    registry = PasswordRegistry()
    await registry.start(cloud.config.host_ip)
    registry.push("team/app", "1", busybox)
    made = PeerWorld(cloud, registry)
    yield made
    await made.close()
    await registry.stop()


async def test_two_pods_take_the_image_from_the_registry_once(world: PeerWorld, busybox: Image) -> None:
    world.registry.users = {"me": "right"}
    world.secrets.put("right", world.registry.host, "right")
    image = f"{world.registry.host}/team/app:1"
    pods = await asyncio.gather(*(world.run(image, secret="right") for _ in range(2)))
    await asyncio.gather(*(started.running() for started in pods))
    fetched = dict(world.registry.blobs)
    assert fetched and set(fetched.values()) == {1}
    told = [use for started in pods for m in started.listener.seen if m["type"] == "images" for use in m["images"]]
    size = sum(len(busybox.parts[digest][1]) for digest in fetched)
    assert {(use["peerBytes"], use["registryBytes"]) for use in told} == {(0, size), (size, 0)}
    (served,) = [started for started in pods if started.events("ImageFetched")]
    assert served.events("ImageFetched") == [
        f'Image "{image}" came as {size} bytes from other instances, 0 from the registry; 0 bytes were there'
    ]
    assert all(len(started.events("Pulled")) == 1 for started in pods)
    for started in pods:
        world.coordinator.leave(started.record)
        await started.end()
