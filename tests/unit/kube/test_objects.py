"""Shared objects: what a pod that starts later is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.kube.fakeclient import FakeClient, build_item, settle
from vk_provider.errors import KubeApiError
from vk_provider.kube import objects
from vk_provider.kube.objects import SharedObjects

KEY = ("ns", "config")


class World:
    def __init__(self, client: FakeClient, max_watches: int) -> None:
        self.client = client
        self.told: list[set[str]] = []
        self.is_told = asyncio.Event()
        self.shared = SharedObjects(
            client,
            lambda namespace: f"/api/v1/namespaces/{namespace}/configmaps",
            self._tell,
            max_watches=max_watches,
        )

    def _tell(self, holders: set[str]) -> None:
        self.told.append(holders)
        self.is_told.set()

    async def read(self, holder: str) -> Any:
        self.shared.hold(holder, {KEY})
        async with asyncio.timeout(30):
            item = await self.shared.fetch(KEY)
        return item and item["data"]


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(objects, "_FRESH_S", 0.0)
    made = FakeClient()
    made.items = [build_item("config", 1, data="old")]
    return made


@pytest.fixture
async def polled(client: FakeClient) -> AsyncIterator[World]:
    world = World(client, max_watches=0)
    yield world
    world.shared.close()


async def test_a_new_pod_gets_what_a_polled_object_is_now(polled: World, client: FakeClient) -> None:
    assert await polled.read("first") == "old"
    client.items = [build_item("config", 2, data="new")]
    assert await polled.read("second") == "new"
    await settle()
    assert polled.told == [{"first", "second"}]
    assert client.lists == 2


async def test_a_polled_object_that_went_is_told_to_those_who_had_it(polled: World, client: FakeClient) -> None:
    assert await polled.read("first") == "old"
    client.items = []
    assert await polled.read("second") is None
    assert polled.told == [{"first", "second"}]


async def test_pods_that_start_together_share_one_reading(
    polled: World, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(polled.read(str(number)) for number in range(20)))
    assert client.lists == 1
    await asyncio.gather(*(polled.read(f"again {number}") for number in range(20)))
    assert client.lists == 2
    monkeypatch.setattr(objects, "_FRESH_S", 60.0)
    await polled.read("soon after")
    assert client.lists == 2


async def test_an_immutable_object_that_was_replaced_is_read_anew_by_the_next_pod(client: FakeClient) -> None:
    world = World(client, max_watches=10)
    client.items = [build_item("config", 1, "uid-1", data="old", immutable=True)]
    assert await world.read("first") == "old"
    await settle()
    world.shared.hold("first", set())
    client.items = [build_item("config", 5, "uid-2", data="new", immutable=True)]
    assert await world.read("second") == "new"
    assert await world.read("third") == "new"
    world.shared.close()


async def test_a_pod_keeps_what_it_had_while_the_api_server_is_away(
    polled: World, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PATIENCE_S", 0.0)
    assert await polled.read("first") == "old"
    client.list_error = KubeApiError(0, "Unreachable", "away")
    polled.shared.hold("second", {KEY})
    assert (await polled.shared.fetch(KEY) or {})["data"] == "old"


async def test_a_watched_object_is_not_read_anew(client: FakeClient) -> None:
    world = World(client, max_watches=10)
    assert await world.read("first") == "old"
    assert await world.read("second") == "old"
    assert client.lists == 1
    world.shared.close()


async def test_objects_that_are_polled_take_no_watch_from_later_ones(client: FakeClient) -> None:
    world = World(client, max_watches=1)
    for name in ("a", "b"):
        world.shared.hold(name, {("ns", name)})
    world.shared._close(("ns", "a"))
    world.shared.hold("c", {("ns", "c")})
    assert [world.shared._entries[("ns", name)].polled for name in ("b", "c")] == [True, False]
    world.shared.close()


async def test_an_answer_that_nobody_expects_is_that_objects_error_and_is_asked_for_again(client: FakeClient) -> None:
    world = World(client, max_watches=10)
    client.items = [{"metadata": {"name": "config"}}]  # no uid, say
    world.shared.hold("first", {KEY})
    with pytest.raises(KubeApiError, match="KeyError"):
        await world.shared.fetch(KEY)
    client.items = [build_item("config", 2, data="sound")]
    async with asyncio.timeout(10):
        await world.is_told.wait()
    assert await world.read("first") == "sound"
    world.shared.close()
