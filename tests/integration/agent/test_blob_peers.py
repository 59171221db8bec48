"""Instances fetch the blobs of an image from each other, with real containerds: once from the registry, never without
the registry's consent, and whatever peers do the pull succeeds."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import shutil
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.cluster import build, containerd2
from tests.integration.agent.peers_rig import Puller, Zone
from tests.password_registry import Image, make_image, make_index, make_layer
from vk_provider.agent.blobs import book, serving, transfer
from vk_provider.agent.images import ImagePullError
from vk_provider.podmodel.images import RegistryCredential

RIGHT = RegistryCredential(username="me", password="right")


def sample(seed: int, layers: int = 4) -> Image:
    """An image that no other test has, with layers that do not compress."""
    draw = random.Random(seed)
    return make_image([make_layer({f"f{number}": draw.randbytes(300_000)}) for number in range(layers)])


def blobs_of(image: Image) -> list[str]:
    return [digest for digest, (media_type, _) in image.parts.items() if "manifest" not in media_type]


def largest(image: Image) -> str:
    return max(blobs_of(image), key=lambda digest: len(image.parts[digest][1]))


def programs() -> list[str]:
    found = [shutil.which("containerd") or "containerd"]
    if containerd2.default() == containerd2.BUILT:
        found.append(str(build.built_path("containerd")))
    return found


@pytest.fixture(params=programs())
async def zone(request: pytest.FixtureRequest) -> AsyncIterator[Zone]:
    made = Zone(request.param)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def push(zone: Zone, image: Image, tag: str = "1") -> str:
    zone.registry.push("team/app", tag, image)
    return f"{zone.registry.host}/team/app:{tag}"


def protect(zone: Zone) -> None:
    """The registry wants a password; the Secret `right` has it."""
    zone.registry.users = {"me": "right"}
    auth = base64.b64encode(b"me:right").decode()
    text = json.dumps({"auths": {zone.registry.host: {"auth": auth}}})
    zone.secrets.items["right"] = {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}


async def seeded(zone: Zone, image: Image) -> tuple[str, Puller, Puller]:
    """(reference, an instance that has the image, one that has not)"""
    reference = push(zone, image)
    first, second = await zone.add(reference), await zone.add(reference)
    await first.pull(reference)
    await first.holds(image)
    return reference, first, second


async def test_pulls_at_one_moment_take_each_blob_from_the_registry_once(zone: Zone) -> None:
    image = sample(1)
    reference = push(zone, image)
    protect(zone)
    pullers = [await zone.add(reference, "right") for _ in range(4)]
    await asyncio.gather(*(puller.pull(reference, RIGHT) for puller in pullers))
    assert all(puller.has(image) for puller in pullers)
    assert dict(zone.registry.blobs) == dict.fromkeys(blobs_of(image), 1)
    size = sum(len(image.parts[digest][1]) for digest in blobs_of(image))
    for _ in range(100):
        if zone.count("vk_image_fetched_bytes_total", source="peers") == 3 * size:
            break
        await asyncio.sleep(0.02)
    assert zone.count("vk_image_fetched_bytes_total", source="peers") == 3 * size
    assert all(not list((puller.directory / "blobs").iterdir()) for puller in pullers), "no copy is left"


async def test_who_has_no_password_gets_nothing_from_peers_either(zone: Zone) -> None:
    image = sample(2)
    protect(zone)
    reference = push(zone, image)
    first, thief = await zone.add(reference, "right"), await zone.add(reference)
    await first.pull(reference, RIGHT)
    with pytest.raises(ImagePullError):
        await thief.pull(reference)
    answers = [await asyncio.wait_for(thief.book.ask(digest), 10) for digest in blobs_of(image)]
    assert answers == [None] * len(answers), "even an agent that knows the digests is told of nobody"
    assert first.blob_server.sent_bytes == 0


async def test_a_digest_and_an_index_come_from_peers_too(zone: Zone) -> None:
    image = sample(3)
    index = make_index({"amd64": image, "arm64": make_image([make_layer({"other": b"x"})], architecture="arm64")})
    zone.registry.push("team/app", "1", index)
    reference = f"{zone.registry.host}/team/app@{index.digest}"
    pullers = [await zone.add(reference) for _ in range(2)]
    await asyncio.gather(*(puller.pull(reference) for puller in pullers))
    assert dict(zone.registry.blobs) == dict.fromkeys(blobs_of(image), 1)


async def test_layers_packed_by_zstd_come_from_peers_too(zone: Zone) -> None:
    layers = [make_layer({f"f{number}": random.Random(number).randbytes(300_000)}) for number in range(20, 23)]
    image = make_image(layers, zstd=True)
    reference = push(zone, image)
    pullers = [await zone.add(reference) for _ in range(2)]
    await asyncio.gather(*(puller.pull(reference) for puller in pullers))
    assert dict(zone.registry.blobs) == dict.fromkeys(blobs_of(image), 1)


async def test_a_registry_may_redirect_to_an_object_storage(zone: Zone) -> None:
    image = sample(4)
    zone.registry.redirect_blobs = True
    protect(zone)
    reference = push(zone, image)
    pullers = [await zone.add(reference, "right") for _ in range(2)]
    await asyncio.gather(*(puller.pull(reference, RIGHT) for puller in pullers))
    assert dict(zone.registry.blobs) == dict.fromkeys(blobs_of(image), 1)


async def test_a_connection_to_the_registry_that_breaks_is_continued_there(zone: Zone) -> None:
    image = sample(5)
    zone.registry.break_once = {largest(image)}
    reference = push(zone, image)
    puller = await zone.add(reference)
    await puller.pull(reference)
    assert puller.has(image)
    assert zone.registry.blobs[largest(image)] == 1, "the rest was a range"


async def test_a_peer_that_lies_costs_one_attempt(zone: Zone) -> None:
    image = sample(6)
    reference, first, second = await seeded(zone, image)
    first.corrupt(largest(image))
    await second.pull(reference)
    assert second.has(image)
    assert zone.registry.blobs[largest(image)] == 2
    assert zone.registry.blobs.total() == len(blobs_of(image)) + 1, "the others came from the peer"


async def test_a_peer_that_has_vanished_is_not_waited_for(zone: Zone) -> None:
    image = sample(7)
    reference, first, second = await seeded(zone, image)
    await first.vanish()
    async with asyncio.timeout(15):
        await second.pull(reference)
    assert second.has(image)


async def test_a_peer_that_falls_silent_is_left(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SILENCE_LIMIT_S", 0.5)
    image = sample(8)
    reference, first, second = await seeded(zone, image)

    async def send(request: web.Request, descriptor: int, size: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(30)
        return response

    monkeypatch.setattr(first.blob_server, "_send", send)
    async with asyncio.timeout(15):
        await second.pull(reference)
    assert second.has(image)


async def test_a_peer_that_is_overloaded_refuses(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_UPLOADS", 0)
    image = sample(9)
    reference, first, second = await seeded(zone, image)
    await second.pull(reference)
    assert second.has(image)
    assert first.blob_server.sent_bytes == 0


async def test_an_instance_whose_fetching_peer_is_gone_fetches_itself(zone: Zone) -> None:
    image = sample(10)
    reference = push(zone, image)
    zone.registry.gate = asyncio.Event()
    first, second = await zone.add(reference), await zone.add(reference)
    leading = asyncio.create_task(first.pull(reference))
    await zone.registry.at_gate.wait()
    following = asyncio.create_task(second.pull(reference))
    async with asyncio.timeout(30):
        while not second.book.progress(frozenset()).waits_for:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    zone.coordinator.leave(first.record)
    zone.registry.gate.set()
    async with asyncio.timeout(30):
        await following
    assert second.has(image)
    await leading


async def test_a_provider_that_says_nothing_holds_nothing_up(zone: Zone) -> None:
    image = sample(11)
    reference = push(zone, image)
    puller = await zone.add(reference)
    await asyncio.sleep(0.1)
    assert puller.book.key
    zone.coordinator.leave(puller.record)  # its messages go nowhere
    async with asyncio.timeout(book.FIRST_ANSWER_S + 5):
        await puller.pull(reference)
    assert puller.has(image)


async def test_what_came_from_where_is_known(zone: Zone) -> None:
    image = sample(12)
    reference, _, second = await seeded(zone, image)
    before = second.book.blobs()
    await second.pull(reference)
    await second.holds(image)
    origins = second.book.origins([image.digest], before)
    assert (origins.store, origins.registry) == (0, 0)
    assert origins.peers == sum(len(image.parts[digest][1]) for digest in blobs_of(image))
    assert second.book.origins([image.digest], second.book.blobs()).store == origins.peers
