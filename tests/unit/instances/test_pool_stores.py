"""Pools whose instances start from prepared stores: the images that anybody may have, of what pods ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.instances.pooled import filled, hurry, idle, make_world, run_pod, status_of, value
from tests.unit.pods.rig import World
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import TAG_IMAGE_STORE, LaunchAnswer, LaunchRequest
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.instances import pool, poolstores
from vk_provider.instances.poolstores import PoolStores, plan_shares
from vk_provider.jsontypes import Json
from vk_provider.pods.images import NoImages
from vk_provider.settings import PoolSettings

SMALL = PoolSettings("small", cpu="1", memory="256Mi", count=2)


class Prepared:
    """The stores that there are, by handle; those that anybody may have are named in `public`, the newest first."""

    def __init__(self, *public: str) -> None:
        self.public, self.known = list(public), set(public)
        self.wake: Callable[[], None] = lambda: None

    def follow(self, on_change: Callable[[], None]) -> None:
        self.wake = on_change

    def put(self, *public: str) -> None:
        self.public, self.known = list(public), self.known | set(public)
        self.wake()

    def newest(self, architecture: str) -> Sequence[str]:
        return self.public

    def is_for_anybody(self, handle: str) -> bool:
        return handle in self.public

    def is_known(self, handle: str) -> bool:
        return handle in self.known


class ByImage(NoImages):
    """A pod of the image X may have the store X, if there is one."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def choose(self, pod: Json) -> str | None:
        image = str(pod["spec"]["containers"][0]["image"])
        return image if image in self._prepared.known else ""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(poolstores, "APART_S", 0.05)
    monkeypatch.setattr("vk_provider.instances.filling.APART_S", 0.05)


async def make(tmp_path: Path, prepared: Prepared, count: int = 2, *, boots_soon: bool = False) -> World:
    world = World(tmp_path, SimulationConfig())
    world.pools = (replace(SMALL, count=count),)
    world.pool_images, world.images = prepared, ByImage(prepared)
    world.ability = CloudAbility(boots_soon=boots_soon)
    await world.start()
    return world


def of_image(image: str) -> list[Json]:
    return [{"name": "c", "image": image, "resources": {"requests": {"cpu": "1"}}}]


def stores(world: World) -> list[str]:
    return sorted(each.tags.get(TAG_IMAGE_STORE, "") for each in idle(world))


def store_of(world: World, pod: Json) -> str:
    (instance,) = world.live_of(pod)
    return instance.tags.get(TAG_IMAGE_STORE, "")


async def test_instances_start_from_the_newest_stores_as_many_from_each(tmp_path: Path) -> None:
    world = await make(tmp_path, Prepared("b", "a", "old"))
    launched: list[LaunchRequest] = []
    launch = world.cloud.launch

    async def note(request: LaunchRequest) -> LaunchAnswer:
        launched.append(request)
        return await launch(request)

    world.cloud.launch = note  # type: ignore[method-assign]
    await filled(world)
    assert stores(world) == ["a", "b"]
    assert sorted(each.image_store for each in launched) == ["a", "b"]
    assert all(each.image_store == each.tags[TAG_IMAGE_STORE] for each in launched)
    await world.stop()


async def test_a_pod_takes_the_one_with_its_images_and_what_follows_has_them_too(tmp_path: Path) -> None:
    world = await make(tmp_path, Prepared("b", "a"))
    await filled(world)
    for image in ("a", "b", "a"):
        pod = await run_pod(world, containers=of_image(image))
        assert store_of(world, pod) == image
        await filled(world)
        assert stores(world) == ["a", "b"]
    assert value(world, "vk_pool_hits_total", pool="small") == 3
    await world.stop()


async def test_one_that_is_idle_without_a_store_is_replaced_once_there_is_one_and_the_rest_after_it(
    tmp_path: Path,
) -> None:
    prepared = Prepared()
    world = await make(tmp_path, prepared)
    before = {each.instance_id for each in await filled(world)}
    prepared.put("a")
    ready = []

    def is_renewed() -> bool:
        ready.append(len(idle(world)))
        return stores(world) == ["a", "a"]

    await world.until(is_renewed)
    assert 0 not in ready  # one after the other
    await world.until(lambda: not before & {each.instance_id for each in world.live()})
    await asyncio.sleep(0.2)
    after = {each.instance_id for each in idle(world)}
    prepared.put("a")
    await asyncio.sleep(0.2)
    assert {each.instance_id for each in idle(world)} == after  # nothing has changed
    await world.stop()


async def test_a_store_that_is_no_more_is_replaced_soon_and_one_that_others_are_asked_for_instead_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared("a")
    world = await make(tmp_path, prepared, 1)
    (first,) = await filled(world, 1)
    prepared.put("b", "a")
    await asyncio.sleep(0.3)
    assert [each.instance_id for each in idle(world)] == [first.instance_id]
    prepared.known.discard("a")
    prepared.put("b")
    await world.until(lambda: stores(world) == ["b"])
    monkeypatch.setattr(poolstores, "ASKED_S", 0.1)
    prepared.put("c", "b")
    await world.until(lambda: stores(world) == ["c"])
    await world.stop()


async def test_none_is_replaced_while_pods_wait_for_a_launch(tmp_path: Path) -> None:
    prepared = Prepared()
    world = await make(tmp_path, prepared)
    before = {each.instance_id for each in await filled(world)}
    gate = asyncio.Event()
    launch = world.cloud.launch

    async def wait(request: LaunchRequest) -> LaunchAnswer:
        await gate.wait()
        return await launch(request)

    world.cloud.launch = wait  # type: ignore[method-assign]
    pod = world.api.add(world.pod(containers=[{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}]))
    await asyncio.sleep(0.05)
    prepared.put("a")
    await asyncio.sleep(0.2)
    assert {each.instance_id for each in idle(world)} == before
    gate.set()
    await world.until(lambda: status_of(world, pod) == "Running" and stores(world) == ["a", "a"])
    await world.stop()


async def test_nobody_is_given_images_that_he_has_not_proved_and_that_are_not_for_anybody(tmp_path: Path) -> None:
    prepared = Prepared("private")
    world = await make(tmp_path, prepared, 1)
    await filled(world, 1)
    prepared.public.clear()  # as after a restart, before the registry has said so again
    stranger = await run_pod(world, containers=of_image("i"))
    assert store_of(world, stranger) == "" and stores(world) == ["private"]
    owner = await run_pod(world, containers=of_image("private"))
    assert store_of(world, owner) == "private"
    await world.stop()


@pytest.mark.parametrize("boots_soon", [False, True])
async def test_where_instances_boot_soon_a_pod_that_has_a_store_takes_none_without_its_images(
    tmp_path: Path, boots_soon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "QUIET_S", 60.0)  # what is taken is not replaced meanwhile
    prepared = Prepared("a")
    world = await make(tmp_path, prepared, 1, boots_soon=boots_soon)
    await filled(world, 1)
    prepared.known.add("b")
    pod = await run_pod(world, containers=of_image("b"))
    assert (store_of(world, pod) == "") is boots_soon
    other = await run_pod(world, containers=of_image("nobody has it"))
    await world.until(lambda: len(world.live_of(other)) == 1)
    assert boots_soon is (store_of(world, other) == "a")
    await world.stop()


async def test_a_restarted_provider_knows_what_its_instances_have_and_replaces_none(tmp_path: Path) -> None:
    prepared = Prepared("b", "a")
    world = await make(tmp_path, prepared)
    before = {each.instance_id for each in await filled(world)}
    await world.crash()
    await world.start()
    await filled(world)
    prepared.put("a", "b")
    await asyncio.sleep(0.2)
    assert {each.instance_id for each in idle(world)} == before and stores(world) == ["a", "b"]
    await world.stop()


async def test_pools_are_as_before_on_a_cloud_without_stores(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    before = {each.instance_id for each in await filled(world)}
    await asyncio.sleep(0.2)
    assert {each.instance_id for each in idle(world)} == before and stores(world) == ["", ""]
    await world.stop()


@pytest.mark.parametrize(
    ("newest", "count", "shares"),
    [
        ((), 3, {}),
        (("a",), 3, {"a": 3}),
        (("b", "a"), 3, {"b": 2, "a": 1}),
        (("c", "b", "a"), 2, {"c": 1, "b": 1}),
        (("a",), 0, {}),
    ],
)
def test_each_of_the_newest_has_the_same_share_and_what_is_left_is_the_newests(
    newest: Sequence[str], count: int, shares: dict[str, int]
) -> None:
    assert dict(plan_shares(newest, count)) == shares


def test_the_store_of_another_instance_is_the_one_that_is_missing_most() -> None:
    chosen = PoolStores(Prepared("b", "a"), boots_soon=False)
    assert chosen.choose([], 3, "amd64") == "b" and chosen.choose(["b", "b"], 3, "amd64") == "a"
    assert chosen.choose(["b"], 2, "amd64") == "a" and chosen.choose(["b", "a"], 2, "amd64") == "b"
    assert PoolStores(Prepared(), boots_soon=False).choose([], 2, "amd64") == ""
    assert chosen.find_outdated([], 2) == (None, 0.0)


class OfArchitecture(Prepared):
    """All stores are for arm64."""

    def newest(self, architecture: str) -> Sequence[str]:
        return self.public if architecture == "arm64" else ()


async def test_a_pool_of_another_architecture_starts_from_no_store_and_stays_as_it_is(tmp_path: Path) -> None:
    world = await make(tmp_path, OfArchitecture("a"))
    before = {each.instance_id for each in await filled(world)}
    assert stores(world) == ["", ""]
    await asyncio.sleep(0.3)
    assert {each.instance_id for each in idle(world)} == before
    await world.stop()


async def test_one_that_came_without_its_store_is_not_replaced_at_once_by_the_next(tmp_path: Path) -> None:
    """The cloud could not give it the store, and its tags say so."""
    world = await make(tmp_path, Prepared("a"), 1)
    launch, launched = world.cloud.launch, list[str]()

    async def without(request: LaunchRequest) -> LaunchAnswer:
        launched.append(request.image_store)
        tags = {name: value for name, value in request.tags.items() if name != TAG_IMAGE_STORE}
        return await launch(replace(request, tags=tags))

    world.cloud.launch = without  # type: ignore[method-assign]
    await filled(world, 1)
    await asyncio.sleep(0.3)
    assert launched == ["a"] and stores(world) == [""]
    await world.stop()
