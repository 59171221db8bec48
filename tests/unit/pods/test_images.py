"""Launches from prepared stores, and what agents tell of their images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from vk_provider.cloud.base import LaunchRequest, LaunchResult
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.eventreasons import AGENT_PROTOCOL_ERROR
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.wire.images import IMAGES_FEATURE, ImagesMessage

from .rig import World

DIGEST = "sha256:" + "1" * 64


class Images:
    """PodImages that gives `chosen`, or what `proved` says once it is set."""

    tells = True

    def __init__(self) -> None:
        self.chosen: str | None = "s1"
        self.proved: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.told: list[tuple[str, list[str]]] = []
        self.forgotten: list[str] = []

    def receive(self, record: PodRecord, message: ImagesMessage) -> None:
        self.told.append((record.name, [use["image"] for use in message["images"]]))

    def forget(self, record: PodRecord) -> None:
        self.forgotten.append(record.name)

    def choose(self, pod: Json) -> str | None:
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


@pytest.fixture
def launched(world: World, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The stores of each launch call."""
    found: list[list[str]] = []
    launch = world.cloud.launch

    async def note(requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        found.append([request.image_store for request in requests])
        return await launch(requests)

    monkeypatch.setattr(world.controller.executor._launcher._batch, "_call", note)
    return found


async def test_a_launch_names_the_store_and_pods_of_one_moment_share_the_call(
    world: World, launched: list[list[str]]
) -> None:
    pods = [world.api.add(world.pod()) for _ in range(3)]
    await world.until(lambda: all(world.api.status(pod).get("phase") == "Running" for pod in pods))
    assert launched == [["s1", "s1", "s1"]]


async def test_a_pod_that_must_prove_that_it_may_have_the_store_is_launched_once_that_is_known(
    world: World, images: Images, launched: list[list[str]]
) -> None:
    images.chosen = None
    pod = world.api.add(world.pod())
    await world.settle()
    assert launched == []
    images.proved.set_result("s2")
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert launched == [["s2"]]


async def test_a_pod_that_is_deleted_while_it_proves_is_not_launched(
    world: World, images: Images, launched: list[list[str]]
) -> None:
    images.chosen = None
    pod = world.api.add(world.pod())
    await world.settle()
    world.api.mark_deleting(pod)
    await world.settle()
    images.proved.set_result("s2")
    await world.until(lambda: world.record(pod) is None)
    assert launched == [] and world.live() == []


async def test_the_store_is_no_part_of_the_clients_token(world: World, images: Images) -> None:
    record = PodRecord("uid", "node-1", world.pod())
    launcher = world.controller.executor._launcher
    first, second = launcher._prepare(record, "s1").request, launcher._prepare(record, "").request
    assert first.client_token == second.client_token and first.image_store == "s1" and second.image_store == ""


def tell(monkeypatch: pytest.MonkeyPatch, uid: str, features: list[str]) -> None:
    """Let agents tell an image of the pod right after their greeting."""
    greet = SimulatedAgent.hello

    def hello(agent: SimulatedAgent) -> list[Json]:
        first, *more = greet(agent)
        use = {"image": "a:1", "digests": [DIGEST], "sizeBytes": 1, "pulled": True, "seconds": 1.0}
        return [{**first, "features": features}, {"type": "images", "podUID": uid, "images": [use]}, *more]

    monkeypatch.setattr(SimulatedAgent, "hello", hello)


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
