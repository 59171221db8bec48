"""What the configuration names is prepared without a pod, and again when a name stands for something else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.preparing.rig import ONE, TWO, World, serve
from tests.unit.sleeps import record_sleeps
from vk_provider.cloud.imagestores import SourceLostError
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.preparing import named
from vk_provider.preparing.credentials import PullSecrets
from vk_provider.preparing.named import NamedArchitectures
from vk_provider.registry.client import RegistryError


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serve(World) as made:
        yield made


async def look(world: World, *names: str, **more: Any) -> None:
    """One round of questions, and what is prepared for it."""
    running = asyncio.create_task(world.preparer.named.run(names, **more))
    for _ in range(200):
        await asyncio.sleep(0.005)
        if world.registry.requests["HEAD manifests"] or world.registry.refused:
            break
    await asyncio.sleep(0.02)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    world.registry.requests.clear()
    await world.prepare()


def of(world: World, digest: str) -> ImageSet:
    return ImageSet.of([PinnedImage(world.reference, digest)])


async def test_a_named_image_is_there_for_the_first_pod(world: World) -> None:
    await look(world, world.reference)
    assert world.stores.asked == [(of(world, ONE.digest), ())]
    assert await world.store_of() == "s1"
    await look(world, world.reference)
    assert len(world.stores.asked) == 1


async def test_a_name_that_stands_for_something_else_is_prepared_again(world: World) -> None:
    await look(world, world.reference)
    world.registry.push("team/app", "1", TWO)
    await look(world, world.reference)
    assert [images for images, _ in world.stores.asked] == [of(world, ONE.digest), of(world, TWO.digest)]
    assert [store.images for store in world.stores.prepared] == [of(world, TWO.digest)]


async def test_the_store_of_a_named_image_does_not_grow_old(world: World) -> None:
    await look(world, world.reference)
    world.now += 900.0
    await look(world, world.reference)
    world.now += 900.0  # the limit is 1,000
    await world.prepare()
    assert [store.handle for store in world.stores.prepared] == ["s1"]


async def test_what_the_registry_shows_to_nobody_is_not_prepared_and_what_it_does_is(world: World) -> None:
    await look(world, f"{world.registry.host}/team/none:1", world.reference)
    assert [images for images, _ in world.stores.asked] == [of(world, ONE.digest)]
    world.registry.users = {"me": "right"}
    world.registry.push("team/private", "1", TWO)
    await look(world, f"{world.registry.host}/team/private:1")
    assert len(world.stores.asked) == 1


async def test_a_failure_is_tried_again_later(world: World) -> None:
    world.stores.error = SourceLostError("gone")
    await look(world, world.reference)
    assert len(world.stores.asked) == 1 and not world.stores.prepared
    world.now += 31.0
    await world.prepare()
    assert len(world.stores.prepared) == 1


async def test_a_pod_that_pulls_it_meanwhile_takes_nothing_away_when_it_ends(world: World) -> None:
    """Its instance is a source as long as it is there."""
    world.stores.error = SourceLostError("gone")
    await look(world, world.reference)
    record = await world.run_pod("first")
    world.preparer.forget(record)
    world.now += 31.0
    await world.prepare()
    assert world.stores.asked[-1] == (of(world, ONE.digest), ())


async def test_what_is_not_confirmed_is_asked_for_again_soon_and_the_others_when_it_is_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = record_sleeps(monkeypatch, named)
    asked: list[str] = []
    done = asyncio.Event()
    real_prove = world.preparer._authority.prove

    async def prove(reference: str, pull_secrets: PullSecrets) -> PinnedImage | None:
        asked.append(reference.rpartition("/")[2])
        if asked.count("app:1") > 1:
            done.set()
        return await real_prove(reference, pull_secrets)

    monkeypatch.setattr(world.preparer._authority, "prove", prove)
    names = [world.reference, f"{world.registry.host}/team/none:1"]
    running = asyncio.create_task(world.preparer.named.run(names))
    await done.wait()
    running.cancel()
    rounds = round(named.RENEW_S / named.RETRY_S)
    assert asked[: rounds + 2] == ["app:1", *["none:1"] * rounds, "app:1"]
    assert sum(delay_s for delay_s in slept if delay_s) == named.RENEW_S


class Manifests:
    """A registry's word for architectures; None: it does not answer."""

    def __init__(self, had: frozenset[str] | None) -> None:
        self.had, self.asked = had, list[str]()

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]:
        self.asked.append(reference)
        if self.had is None:
            raise RegistryError("no answer")
        return self.had


BOTH = frozenset({"amd64", "arm64"})


@pytest.mark.parametrize(
    ("offered", "had", "found"),
    [
        (["amd64"], None, ("amd64",)),
        ([], None, ("",)),
        (["arm64", "amd64"], BOTH, ("amd64", "arm64")),
        (["arm64", "amd64"], frozenset({"arm64", "s390x"}), ("arm64",)),
        (["arm64", "amd64"], frozenset({"s390x"}), ()),
        (["arm64", "amd64"], frozenset(), ("amd64", "arm64")),
        (["arm64", "amd64"], None, ("amd64", "arm64")),
    ],
)
async def test_a_named_image_is_for_what_the_cloud_offers_and_the_image_has(
    offered: list[str], had: frozenset[str] | None, found: tuple[str, ...]
) -> None:
    registry = Manifests(had)
    architectures = NamedArchitectures(registry, lambda: offered)
    one = PinnedImage("registry.example/app:1", "sha256:" + "1" * 64)
    for _ in range(2):
        assert await architectures.find(one) == found
    assert registry.asked in ([], [f"registry.example/app@{one.digest}"], [f"registry.example/app@{one.digest}"] * 2)
    assert len(registry.asked) == (0 if len(offered) < 2 else 1 if had is not None else 2), "of a digest once"


async def test_a_named_image_has_a_store_for_each_architecture_and_none_for_one_that_it_lacks(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.stores.is_divided = True
    registry = Manifests(BOTH)
    await look(world, world.reference, architectures_of=NamedArchitectures(registry, lambda: BOTH).find)
    assert {store.architecture for store in world.stores.prepared} == BOTH
    assert [images for images, _ in world.stores.asked] == [of(world, ONE.digest)] * 2
    registry.had = frozenset({"s390x"})
    world.restart()
    await look(world, world.reference, architectures_of=NamedArchitectures(registry, lambda: BOTH).find)
    assert "has no image for an architecture that the cloud offers" in caplog.text
    assert len(world.stores.asked) == 2
