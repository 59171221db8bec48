"""Which blobs a pod may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.password_registry import Image, PasswordRegistry, make_image, make_index, make_layer
from vk_provider.preparing import contents as module
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.contents import FRESH_S, ImageContents
from vk_provider.registry.client import RegistryClient

AMD: Image = make_image([make_layer({"a": b"1"})])
ARM: Image = make_image([make_layer({"a": b"2"})], architecture="arm64")
INDEX = make_index({"amd64": AMD, "arm64": ARM})


class World:
    def __init__(self, registry: PasswordRegistry) -> None:
        self.registry = registry
        self.client = RegistryClient({registry.host: {"plain_http": True}})
        self.authority = PullAuthority(self.client)
        self.now = 0.0
        self.contents = ImageContents(self.authority, lambda: self.now)

    def pod(self, *images: str) -> Any:
        names = [f"{self.registry.host}/{image}" for image in images]
        return {"spec": {"containers": [{"name": f"c{number}", "image": name} for number, name in enumerate(names)]}}

    async def allowed(self, *images: str, architecture: str = "amd64") -> set[str]:
        return set(await self.contents.find_allowed(self.pod(*images), {}, architecture))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    registry = PasswordRegistry()
    await registry.start()
    registry.push("team/app", "1", INDEX)
    registry.push("team/other", "1", AMD)
    made = World(registry)
    yield made
    await made.authority.close()
    await made.client.close()
    await registry.stop()


def blobs_of(image: Image) -> set[str]:
    return {digest for digest, (media_type, _) in image.parts.items() if "manifest" not in media_type}


async def test_of_an_index_the_blobs_of_the_instances_architecture(world: World) -> None:
    assert await world.allowed("team/app:1") == blobs_of(AMD)
    assert await world.allowed("team/app:1", architecture="arm64") == blobs_of(ARM)


async def test_what_is_known_is_not_asked_again_until_the_name_may_have_moved(world: World) -> None:
    await world.allowed("team/app:1")
    asked = world.registry.requests.total()
    await world.allowed("team/app:1")
    assert world.registry.requests.total() == asked
    world.now = FRESH_S
    world.registry.push("team/app", "1", ARM)
    assert await world.allowed("team/app:1") == blobs_of(ARM)


async def test_a_blob_is_of_each_repository_that_has_it(world: World) -> None:
    found = await world.contents.find_allowed(world.pod("team/app:1", "team/other:1"), {}, "amd64")
    (layer,) = (digest for digest in blobs_of(AMD) if "layer" in AMD.parts[digest][0])
    repositories = {repository for repository, _ in found[layer][0]}
    assert repositories == {f"{world.registry.host}/team/app", f"{world.registry.host}/team/other"}
    assert await world.contents.find_size(world.pod("team/other:1"), {}, "amd64") == sum(
        len(AMD.parts[digest][1]) for digest in blobs_of(AMD)
    )


async def test_an_image_that_the_registry_does_not_show_has_no_blobs(world: World) -> None:
    assert await world.allowed("team/none:1") == set()


async def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_PARTS", 3)
    await world.allowed("team/app:1")
    await world.allowed("team/other:1")
    assert world.contents._kept_parts <= 3
    assert len(world.contents._manifests) <= 1
