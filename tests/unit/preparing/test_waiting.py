"""Pods of an image that another pod is pulling for the first time wait for its store, and say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.preparing.rig import ONE, World, make_instance, serve
from vk_provider.cloud.imagestores import StoreFullError
from vk_provider.instances.instance import OwnedInstance
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.firsttime import FirstTimeRules

BIG = 70 << 20


class WaitingWorld(World):
    """size: of the image as the registry shows it."""

    size = BIG
    asked = 0

    def first_time(self) -> FirstTimeRules:
        return FirstTimeRules(1, 60.0, self._find_size)

    async def _find_size(self, pod: object, secrets: object) -> int:
        self.asked += 1
        return self.size

    def bind(self, name: str, **spec: str) -> PodRecord:
        """A pod without an instance."""
        record = PodRecord(name, "n", self.pod(name, **spec))
        self.records.append(record)
        return record

    async def start_waiting(self, name: str) -> asyncio.Task[str]:
        record = self.bind(name)
        assert self.preparer.choose(record.pod) is None
        task = asyncio.create_task(self.preparer.prove(record.pod))
        await asyncio.sleep(0.02)
        return task


@pytest.fixture
async def world() -> AsyncIterator[WaitingWorld]:
    async with serve(WaitingWorld) as made:
        yield made


async def pioneer(world: WaitingWorld) -> PodRecord:
    record = world.bind("first")
    assert world.preparer.choose(record.pod) == ""
    record.assignment.take(OwnedInstance(make_instance("i-first")))
    return record


async def pulled(world: WaitingWorld, record: PodRecord, *, present: bool = False) -> None:
    world.tell(record, ONE.digest, pulled=not present)
    await asyncio.gather(*world.preparer._tasks)


async def test_the_pods_that_follow_start_from_the_store_of_the_first(world: WaitingWorld) -> None:
    first = await pioneer(world)
    tasks = [await world.start_waiting(f"p{number}") for number in range(3)]
    assert not any(task.done() for task in tasks)
    assert [event.partition(":")[0] for event in world.events] == [
        f"Normal WaitingForImages p{number}" for number in range(3)
    ]
    await pulled(world, first)
    await world.prepare()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 30) == ["s1"] * 3
    assert world.stores.awaited == [True]
    assert await world.store_of("later") == "s1"


async def test_a_store_that_no_pod_waits_for_is_in_no_hurry(world: WaitingWorld) -> None:
    await pulled(world, await pioneer(world))
    await world.prepare()
    assert world.stores.awaited == [False]


async def test_small_images_are_not_waited_for(world: WaitingWorld) -> None:
    world.size = 300_000
    await pioneer(world)
    task = await world.start_waiting("next")
    assert await asyncio.wait_for(task, 30) == ""
    assert world.events == []


async def test_a_preparation_that_fails_lets_them_go(world: WaitingWorld) -> None:
    first = await pioneer(world)
    task = await world.start_waiting("next")
    world.stores.error = StoreFullError("no room")
    await pulled(world, first)
    await world.prepare()
    assert await asyncio.wait_for(task, 30) == ""


async def test_an_image_that_was_there_lets_them_go(world: WaitingWorld) -> None:
    first = await pioneer(world)
    task = await world.start_waiting("next")
    await pulled(world, first, present=True)
    assert await asyncio.wait_for(task, 30) == ""
    assert world.preparer.choose(world.bind("later").pod) == ""


async def test_a_first_pod_that_is_deleted_is_followed_by_another(world: WaitingWorld) -> None:
    first = await pioneer(world)
    task = await world.start_waiting("next")
    world.records.remove(first)
    world.preparer.forget(first)
    assert await asyncio.wait_for(task, 30) == ""
    assert world.preparer.choose(world.bind("later").pod) is None


async def test_a_pod_that_may_not_pull_is_neither_first_nor_kept(world: WaitingWorld) -> None:
    assert world.preparer.choose(world.bind("never", policy="Never").pod) == ""
    await pioneer(world)
    assert world.preparer.choose(world.bind("never2", policy="Never").pod) == ""
    assert world.asked == 0
