"""The informer's copy stays right whatever happens to its connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.integration.kube.fakeapi import FakeApi, serving, status
from tests.integration.kube.waiting import running, until
from vk_provider.aiokit.backoff import Backoff
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, ReflectorOptions, StoreOptions, Stub
from vk_provider.kube.paths import PODS

Events = list[tuple[str, str]]


@asynccontextmanager
async def informing(api: FakeApi, directory: Path, **options: Any) -> AsyncIterator[tuple[Informer, Events]]:
    events: Events = []

    def observe(kind: str, item: dict[str, Any]) -> None:
        events.append((kind, item["metadata"]["name"]))

    async with serving(api, directory) as kubeconfig:
        client = await KubeClient.connect(str(kubeconfig))
        quick = Backoff(first_s=0.01, max_s=0.05)
        informer = Informer(
            client,
            PODS,
            {"fieldSelector": "spec.nodeName=n"},
            observe,
            reflector=ReflectorOptions(backoff=quick),
            **options,
        )
        try:
            async with running(informer.run()):
                await asyncio.wait_for(informer.synced.wait(), 5)
                await asyncio.wait_for(api.opened.wait(), 5)
                yield informer, events
        finally:
            await client.close()


def names(informer: Informer) -> set[str]:
    return {item["metadata"]["name"] for item in informer.items.values()}


async def test_list_then_watch(tmp_path: Path) -> None:
    api = FakeApi()
    api.put("a")
    async with informing(api, tmp_path) as (informer, events):
        api.put("b")
        api.put("a")
        api.remove("b")
        await until(lambda: len(events) == 4)
        assert events == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
        assert names(informer) == {"a"}
        assert "managedFields" not in informer.items["uid-a"]["metadata"]
        assert informer.connected


async def test_a_cut_watch_goes_on_where_it_was_without_a_new_list(tmp_path: Path) -> None:
    api = FakeApi()
    async with informing(api, tmp_path) as (informer, events):
        api.put("a")
        await until(lambda: events)
        api.bookmark()
        await until(lambda: informer._resource_version == "12")
        api.opened.clear()
        api.cut()
        await asyncio.wait_for(api.opened.wait(), 5)
        api.put("b")
        await until(lambda: len(events) == 2)
        assert (api.lists, api.watch_from) == (1, ["10", "12"])


async def test_an_expired_version_lists_again_and_tells_the_difference(tmp_path: Path) -> None:
    api = FakeApi()
    for name in ("a", "b", "c"):
        api.put(name)
    async with informing(api, tmp_path) as (informer, events):
        del events[:]
        api.remove("a", quietly=True)
        api.put("b", quietly=True)
        api.put("d", quietly=True)
        api.expire()
        await until(lambda: len(events) == 3)
        assert sorted(events) == [("ADDED", "d"), ("DELETED", "a"), ("MODIFIED", "b")]
        assert names(informer) == {"b", "c", "d"}


async def test_410_within_the_watch_leads_to_a_new_list(tmp_path: Path) -> None:
    api = FakeApi()
    api.put("a")
    async with informing(api, tmp_path) as (informer, events):
        api.opened.clear()
        api.expire()
        await asyncio.wait_for(api.opened.wait(), 5)
        assert api.lists == 2
        api.put("b")
        await until(lambda: ("ADDED", "b") in events)
        assert events == [("ADDED", "a"), ("ADDED", "b")]


async def test_410_as_the_answer_to_the_watch_leads_to_a_new_list(tmp_path: Path) -> None:
    api = FakeApi()

    async def gone(_request: web.Request) -> web.StreamResponse:
        return status(410, "Gone", "too old")

    async with informing(api, tmp_path) as (informer, events):
        api.next_watch_answers = [gone]
        api.opened.clear()
        api.cut()
        await asyncio.wait_for(api.opened.wait(), 5)
        assert api.lists == 2


async def test_a_pod_recreated_under_its_name_is_another_object(tmp_path: Path) -> None:
    api = FakeApi()
    api.put("a")
    async with informing(api, tmp_path) as (informer, events):
        api.put("a", uid="second")
        await until(lambda: len(events) == 2)
        assert events == [("ADDED", "a"), ("ADDED", "a")]
        assert set(informer.items) == {"uid-a", "second"}


async def test_an_unavailable_server_is_not_connected_and_recovers(tmp_path: Path) -> None:
    api = FakeApi()

    async def down(_request: web.Request) -> web.StreamResponse:
        return status(503, "ServiceUnavailable", "starting")

    async with informing(api, tmp_path) as (informer, events):
        api.next_watch_answers = [down] * 3
        api.opened.clear()
        api.cut()
        await until(lambda: not informer.connected)
        await asyncio.wait_for(api.opened.wait(), 5)
        await until(lambda: informer.connected and informer.error is None)
        api.put("b")
        await until(lambda: events == [("ADDED", "b")])
        assert api.lists == 1


async def test_without_keeping_objects_a_deletion_still_names_them(tmp_path: Path) -> None:
    api = FakeApi()
    api.put("a")
    async with informing(api, tmp_path, store=StoreOptions(keep=False)) as (informer, events):
        assert informer.items["uid-a"] == Stub("uid-a", "a", "ns", informer.items["uid-a"].version)
        api.remove("a", quietly=True)
        api.expire()
        await until(lambda: ("DELETED", "a") in events)


async def test_a_long_list_is_read_to_its_last_page(tmp_path: Path) -> None:
    api = FakeApi()
    for number in range(1200):
        api.put(f"p{number:04}")
    async with informing(api, tmp_path) as (informer, events):
        assert len(informer.items) == len(events) == 1200
