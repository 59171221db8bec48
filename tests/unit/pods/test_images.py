"""Launches from prepared stores, and what agents tell of their images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vk_provider.cloud.base import TAG_GROUP, TAG_POD_UID, LaunchAnswer, LaunchFailure, LaunchRequest
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.errors import CloudQuotaError
from vk_provider.eventreasons import AGENT_PROTOCOL_ERROR
from vk_provider.instances import links
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.wire.images import IMAGES_FEATURE, ImagesMessage

from .rig import World, tell_after_greeting

DIGEST = "sha256:" + "1" * 64


class Images:
    """PodImages that gives `chosen`, or what `proved` says once it is set. fault: what `choose` raises."""

    tells = True

    def __init__(self) -> None:
        self.chosen: str | None = "s1"
        self.fault: Exception | None = None
        self.proved: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.told: list[tuple[str, list[str]]] = []
        self.forgotten: list[str] = []

    def receive(self, record: PodRecord, message: ImagesMessage) -> None:
        self.told.append((record.name, [use["image"] for use in message["images"]]))

    def forget(self, record: PodRecord) -> None:
        self.forgotten.append(record.name)

    def choose(self, pod: Json) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.chosen

    async def prove(self, pod: Json) -> str:
        return await asyncio.shield(self.proved)


@pytest.fixture
async def images() -> Images:
    return Images()


@pytest.fixture
async def world(tmp_path: Path, images: Images) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    made.images = images
    await made.start()
    yield made
    await made.stop()


class Calls:
    """The launch calls of a world. `gate`: they wait for it before they do anything; `answered`: whether they answer;
    `refusals`: answers to the next ones, which do nothing."""

    def __init__(self, world: World) -> None:
        self.requests: list[LaunchRequest] = []
        self.gate: asyncio.Event | None = None
        self.answered = True
        self.refusals: list[CloudQuotaError] = []
        self._launch = world.cloud.launch
        world.cloud.launch = self.launch

    @property
    def stores(self) -> list[tuple[str, int]]:
        """The store and the count of each."""
        return [(request.image_store, request.count) for request in self.requests]

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            return LaunchAnswer((), (LaunchFailure(request.offerings[0], self.refusals.pop()),))
        answer = await self._launch(request)
        if not self.answered:
            await asyncio.Event().wait()
        return answer


@pytest.fixture
def calls(world: World, monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    return Calls(world)


def proofs() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("proof of pod")]


async def until_running(world: World, *pods: Json) -> None:
    await world.until(lambda: all(world.api.status(pod).get("phase") == "Running" for pod in pods))


async def test_a_launch_names_the_store_and_pods_of_one_moment_share_the_call(world: World, calls: Calls) -> None:
    await until_running(world, *[world.api.add(world.pod()) for _ in range(3)])
    assert calls.stores == [("s1", 3)]


async def test_a_pod_that_must_prove_that_it_may_have_the_store_is_launched_once_that_is_known(
    world: World, images: Images, calls: Calls
) -> None:
    images.chosen = None
    pod = world.api.add(world.pod())
    await world.settle()
    world.controller.wake(pod["metadata"]["uid"])
    await world.settle()
    assert calls.requests == [] and len(proofs()) == 1
    images.proved.set_result("s2")
    await until_running(world, pod)
    assert calls.stores == [("s2", 1)] and proofs() == []


@pytest.mark.parametrize("known", [True, False])
async def test_pods_that_prove_the_same_share_the_call(world: World, images: Images, calls: Calls, known: bool) -> None:
    images.chosen = None
    if known:
        images.proved.set_result("s2")
    pods = [world.api.add(world.pod()) for _ in range(3)]
    if not known:
        await world.until(lambda: len(proofs()) == 3)
        images.proved.set_result("s2")
    await until_running(world, *pods)
    assert calls.stores == [("s2", 3)]


async def test_a_pod_that_is_deleted_while_it_proves_goes_at_once_and_is_not_launched(
    world: World, images: Images, calls: Calls
) -> None:
    images.chosen = None
    pod = world.api.add(world.pod())
    await world.until(proofs)
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert proofs() == []
    images.proved.set_result("s2")
    await world.settle()
    assert calls.requests == []


async def test_a_pod_that_starts_to_end_in_the_moment_of_its_proof_is_not_launched(
    world: World, images: Images, calls: Calls
) -> None:
    images.chosen = None
    pod = world.api.add(world.pod())
    await world.until(proofs)
    images.proved.set_result("s2")
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert calls.requests == []


async def test_a_stop_ends_the_proofs(world: World, images: Images) -> None:
    images.chosen = None
    world.api.add(world.pod())
    await world.until(proofs)
    await world.controller.close(0.0)
    assert proofs() == []


async def test_a_fault_of_the_choice_costs_the_store_and_not_the_instance(
    world: World, images: Images, calls: Calls
) -> None:
    images.fault = ValueError("a fault")
    await until_running(world, world.api.add(world.pod()))
    images.fault, images.chosen = None, None
    images.proved.set_exception(ValueError("another"))
    await until_running(world, world.api.add(world.pod()))
    assert calls.stores == [("", 1), ("", 1)]


async def test_equal_pods_with_different_stores_share_no_launch(world: World, images: Images, calls: Calls) -> None:
    calls.gate = asyncio.Event()
    for store in ("s1", "", "s1", ""):
        images.chosen = store
        world.api.add(world.pod())
        await world.settle()
    calls.gate.set()
    await world.until(lambda: sum(request.count for request in calls.requests) == 4)
    groups = {(request.image_store, request.tags[TAG_GROUP]) for request in calls.requests}
    assert len(groups) == 2 and len({digest for _, digest in groups}) == 2


@pytest.mark.parametrize("store", ["s1", ""])
async def test_an_idle_instance_goes_to_nobody_who_may_not_have_its_store(
    world: World, images: Images, calls: Calls, store: str
) -> None:
    world.connector.unreachable.add("*")
    first = world.api.add(world.pod())
    await world.until(lambda: world.live_of(first))
    (idle,) = world.live()
    calls.gate, images.chosen = asyncio.Event(), store
    second = world.api.add(world.pod())
    await world.until(lambda: len(calls.requests) == 2)
    world.api.mark_deleting(first)
    await world.until(lambda: world.record(first) is None)
    assert (world.live() == [idle]) == (store == "s1"), "kept while somebody waits who may have it"
    world.connector.unreachable.clear()
    if not store:
        calls.gate.set()
    await until_running(world, second)
    assert (world.live_of(second)[0].instance_id == idle.instance_id) == (store == "s1")


async def test_a_store_that_is_ready_by_the_next_try_is_used(world: World, images: Images, calls: Calls) -> None:
    calls.refusals.append(CloudQuotaError("InstanceLimitExceeded: enough"))
    images.chosen = ""
    pod = world.api.add(world.pod())
    await world.until(lambda: calls.requests)
    images.chosen = "s1"
    await until_running(world, pod)
    assert calls.stores == [("", 1), ("s1", 1)]


async def test_what_was_proved_holds_for_the_next_try(world: World, images: Images, calls: Calls) -> None:
    calls.refusals.append(CloudQuotaError("InstanceLimitExceeded: enough"))
    images.chosen = None
    images.proved.set_result("s2")
    await until_running(world, world.api.add(world.pod()))
    assert calls.stores == [("s2", 1), ("s2", 1)]


async def test_a_launch_that_is_repeated_after_a_crash_finds_its_instances_whatever_store_fits_by_then(
    world: World, images: Images, calls: Calls
) -> None:
    """The cloud does not list them yet. They go to the pods that they were launched for, and to no other: those were
    allowed the store."""
    calls.answered = False
    pods = [world.api.add(world.pod()) for _ in range(2)]
    await world.until(lambda: len(world.live()) == 2)
    first = {instance.instance_id for instance in world.live()}
    assert not any(TAG_POD_UID in instance.tags for instance in world.live())
    await world.crash()

    images.chosen, calls.answered, calls.gate = "", True, asyncio.Event()
    await world.start(adopt=False)
    world.controller.adopt([])
    await world.until(lambda: len(calls.requests) == 2)
    urgent = world.api.add(world.pod(priority=1000))
    await world.until(lambda: len(calls.requests) == 3)
    calls.gate.set()
    await until_running(world, *pods, urgent)
    before, after, _ = calls.requests
    assert before.client_token == after.client_token and before.tags[TAG_GROUP] != after.tags[TAG_GROUP]
    assert {world.live_of(pod)[0].instance_id for pod in pods} == first
    assert world.live_of(urgent)[0].instance_id not in first and len(world.live()) == 3


def tell(monkeypatch: pytest.MonkeyPatch, uid: str, features: list[str]) -> None:
    """Let agents tell an image of the pod right after their greeting."""
    use = {"image": "a:1", "digests": [DIGEST], "sizeBytes": 1, "pulled": True, "seconds": 1.0}
    tell_after_greeting(monkeypatch, features, {"type": "images", "podUID": uid, "images": [use]})


async def test_what_an_agent_tells_is_passed_on_and_the_end_of_its_pod_too(
    world: World, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    tell(monkeypatch, pod["metadata"]["uid"], [IMAGES_FEATURE])
    world.api.add(pod)
    await world.until(lambda: images.told)
    assert images.told[0] == (pod["metadata"]["name"], ["a:1"])
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    world.api.mark_deleting(pod)
    await world.until(lambda: images.forgotten == [pod["metadata"]["name"]])


async def test_an_agent_that_has_not_named_the_feature_breaks_the_protocol_with_it(
    world: World, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    tell(monkeypatch, pod["metadata"]["uid"], [])
    world.api.add(pod)
    await world.until(lambda: AGENT_PROTOCOL_ERROR in world.recorder.reasons())
    assert images.told == []


async def test_agents_are_asked_to_tell_where_images_are_kept_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Json] = []
    original = SimulatedAgent.receive

    def receive(agent: SimulatedAgent, message: Json, now: str) -> list[Json]:
        received.append(message)
        return original(agent, message, now)

    monkeypatch.setattr(SimulatedAgent, "receive", receive)
    await world.running()
    [sent] = [message for message in received if message["type"] == "pod"]
    assert sent["node"]["tellImages"] is True
