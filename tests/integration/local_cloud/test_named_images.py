"""Images that the configuration names: the machine fetches and prepares them, and the first pod has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.integration.local_cloud.conftest import OWNER, take_down
from tests.integration.local_cloud.machine import until
from tests.integration.local_cloud.test_prepared_pods import World, busybox
from tests.password_registry import Image, PasswordRegistry
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.preparing import named

__all__ = ["busybox"]

pytestmark = pytest.mark.real


@pytest.fixture
async def world(config: LocalCloudConfig, busybox: Image) -> AsyncIterator[World]:
    """The registry is at an address that no instance reaches."""
    registry = PasswordRegistry()
    await registry.start()
    registry.push("team/app", "1", busybox)
    known = {registry.host: {"plain_http": True, "server": f"http://{registry.host}"}}
    cloud = LocalCloud(replace(config, registries=known), OWNER)
    await cloud.start()
    made = World(cloud, registry)
    try:
        yield made
    finally:
        await made.close()
        await registry.stop()
        await cloud.close()
        await take_down(config)


async def test_a_named_image_is_there_for_the_first_pod_and_follows_its_tag(
    world: World, busybox: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "RENEW_S", 0.3)
    monkeypatch.setattr(named, "RETRY_S", 0.3)
    registry, image = world.registry, f"{world.registry.host}/team/app:1"
    naming = asyncio.create_task(world.preparer.named.run([f"{registry.host}/team/none:1", image]))
    await world.prepared(1)
    fetched = dict(registry.blobs)
    assert fetched and set(fetched.values()) == {1}

    first = await world.run(image)
    assert first.store
    found = await first.running()
    assert found["imageID"] == f"{registry.host}/team/app@{busybox.digest}"
    assert "already present on machine" in first.events("Pulled")[0]
    assert dict(registry.blobs) == fetched

    (inner,) = [part for part, (kind, _) in busybox.parts.items() if kind.endswith("manifest.v1+json")][:1]
    registry.push("team/app", "1", Image(inner, busybox.parts))
    await until(lambda: inner in str(world.preparer._sets.stores), 120)
    second = await world.run(image)
    assert (await second.running())["imageID"] == f"{registry.host}/team/app@{inner}"
    naming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await naming
