"""What the cloud offers changes while the provider runs, and what agents say of their memory counts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.pods.rig import World
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import Offering
from vk_provider.errors import CloudError
from vk_provider.instances import offerings as module
from vk_provider.instances.offerings import OfferingBook
from vk_provider.sizing.requirement import Given
from vk_provider.sizing.selection import Selection

GIB = 2**30
FIRST = [Offering("a.large", "z", "on-demand", "amd64", 2000, 4 * GIB, 0.10)]
SECOND = [*FIRST, Offering("b.large", "z", "on-demand", "arm64", 2000, 4 * GIB, 0.05)]
POD: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}}


class Cloud:
    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked = asyncio.Event()

    async def describe_offerings(self) -> list[Offering]:
        if not self.answers:
            self.asked.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: list[Offering] = answer
        return found


def chosen(book: OfferingBook) -> str:
    found = book.selector.select(POD, book.shortages.unavailable())
    assert isinstance(found, Selection)
    return found.offering.instance_type


async def test_new_offerings_are_chosen_from_and_an_answer_that_fails_changes_nothing() -> None:
    book, cloud = OfferingBook(FIRST), Cloud()
    cloud.answers = [CloudError("later"), [], SECOND]
    before = chosen(book)
    task = asyncio.create_task(book.run(cloud, 0.001))
    await asyncio.wait_for(cloud.asked.wait(), 30)
    task.cancel()
    assert (before, chosen(book)) == ("a.large", "b.large")
    assert book.architectures == {"amd64", "arm64"}
    assert len(book.shortages._offerings) == 2


async def test_a_cloud_whose_offerings_never_change_is_not_asked() -> None:
    cloud = Cloud()
    cloud.answers = [SECOND]
    task = asyncio.create_task(OfferingBook(FIRST).run(cloud, math.inf))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done() and cloud.answers == [SECOND]
    task.cancel()


async def test_the_same_offerings_leave_groups_together() -> None:
    book, cloud = OfferingBook(FIRST), Cloud()
    before = book.selector.select(POD, frozenset())
    cloud.answers = [list(FIRST), [replace(each) for each in FIRST]]
    task = asyncio.create_task(book.run(cloud, 0.001))
    await asyncio.wait_for(cloud.asked.wait(), 30)
    task.cancel()
    assert book.selector.select(POD, frozenset()) is before


async def test_what_a_greeting_says_of_memory_counts_for_the_next_pods(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    await world.start()
    pod = await world.running()
    (instance,) = world.live_of(pod)
    nominal = next(
        each for each in await world.cloud.describe_offerings() if each.instance_type == instance.instance_type
    )
    real = nominal.memory_bytes - 100 * 2**20
    agent = world.connector._agents[instance.instance_id]
    original = agent.hello
    agent.hello = lambda: [{**original()[0], "memoryBytes": real}, *original()[1:]]
    world.connector._channels[instance.instance_id].drop()
    await world.until(
        lambda: world.room.offerings.find(instance.instance_type).usable_memory_bytes < nominal.memory_bytes
    )
    found = world.room.offerings.find(instance.instance_type)
    assert found is not None and real - 2**22 < found.usable_memory_bytes <= real


async def test_options_go_into_the_request_and_a_cloud_without_them_refuses_the_pod(world: World) -> None:
    await world.start()
    pod = world.pod()
    pod["metadata"]["annotations"] = {"vk-provider/subnet": "subnet-1"}
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Failed")
    reason, message = next(each for each in world.recorder.events if each[0] == "InvalidRequirement")
    assert "vk-provider/subnet is not allowed on pods here" in message and world.live() == []


async def test_pods_with_other_options_are_in_other_groups(world: World) -> None:
    world.ability = CloudAbility(launch_options=frozenset({"subnet"}))
    asked: list[Any] = []
    launch = world.cloud.launch

    async def remember(request: Any) -> Any:
        asked.append(request)
        return await launch(replace(request, options={}))

    world.cloud.launch = remember
    world.facts = Facts({"one": "subnet-1", "two": "subnet-2"})
    await world.start()
    pods = [world.pod(runtimeClassName=name) for name in ("one", "one", "two")]
    for pod in pods:
        world.api.add(pod)
    await world.until(lambda: all(world.api.status(pod).get("phase") == "Running" for pod in pods))
    assert sorted((dict(request.options)["subnet"], request.count) for request in asked) == [
        ("subnet-1", 2),
        ("subnet-2", 1),
    ]


class Facts:
    """Subnets by RuntimeClass, known after a moment."""

    def __init__(self, subnets: dict[str, str]) -> None:
        self._subnets = subnets

    def peek(self, pod: dict[str, Any]) -> Given | None:
        return None

    async def find(self, pod: dict[str, Any]) -> Given:
        await asyncio.sleep(0)
        return Given(annotations=(("vk-provider/subnet", self._subnets[pod["spec"]["runtimeClassName"]]),))
