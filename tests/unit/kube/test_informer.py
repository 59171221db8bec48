"""How an informer goes on after watches that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.kube.fakeclient import FakeClient, build_item, settle
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import KubeApiError
from vk_provider.kube.informer import Informer, ReflectorOptions


class CountedBackoff(Backoff):
    """Notes its delays and lets nobody wait."""

    delays: list[float]

    def next_delay_s(self) -> float:
        self.delays.append(super().next_delay_s())
        return 0.0


def counted() -> CountedBackoff:
    backoff = CountedBackoff(first_s=1.0, max_s=8.0, jitter=0.0)
    backoff.delays = []
    return backoff


async def run(client: FakeClient, backoff: Backoff) -> Informer:
    informer = Informer(client, "/api/v1/pods", reflector=ReflectorOptions(backoff=backoff))
    task = asyncio.create_task(informer.run())
    await settle(200)
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return informer


@pytest.mark.parametrize("end", [None, KubeApiError(0, "Unreachable", "lost")])
async def test_watches_that_end_at_once_are_opened_ever_more_slowly(end: KubeApiError | None) -> None:
    client, backoff = FakeClient(), counted()
    client.ends = [end] * 5
    await run(client, backoff)
    assert backoff.delays == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert (client.lists, len(client.watches)) == (1, 6)


@pytest.mark.parametrize("status", [400, 410, 500, 504])
async def test_a_version_that_cannot_be_watched_is_listed_anew(status: int) -> None:
    client = FakeClient()
    client.items = [build_item("a")]
    client.ends = [KubeApiError(status, "", "Too large resource version")]
    informer = await run(client, counted())
    assert (client.lists, client.watches) == (2, ["10", "10"])
    assert set(informer.items) == {"uid-a"}


@pytest.mark.parametrize("status", [0, 401, 403, 429, 503])
async def test_a_server_that_is_busy_or_away_is_not_listed_anew(status: int) -> None:
    client = FakeClient()
    client.ends = [KubeApiError(status, "", "later")] * 3
    await run(client, counted())
    assert client.lists == 1


async def test_a_broken_line_of_a_watch_leads_to_a_list() -> None:
    client = FakeClient()
    client.ends = [KubeApiError(0, "BrokenWatch", "watch sent an invalid line")]
    await run(client, counted())
    assert client.lists == 2


async def test_a_fault_about_one_object_ends_neither_the_watch_nor_the_word_about_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, told = FakeClient(), list[str]()
    client.items = [build_item("broken"), build_item("good")]

    def on_event(kind: str, item: dict[str, Any]) -> None:
        if item["metadata"]["name"] == "broken":
            raise KeyError("spec")
        told.append(item["metadata"]["name"])

    informer = Informer(client, "/api/v1/pods", on_event=on_event)
    task = asyncio.create_task(informer.run())
    await settle(200)
    assert not task.done() and told == ["good"]
    assert [record.getMessage() for record in caplog.records if "broken" in record.getMessage()] == [
        "/api/v1/pods: ADDED of uid-broken cannot be handled: KeyError: 'spec'"
    ]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_says_since_when_it_fails_and_not_any_more_once_it_is_connected() -> None:
    client = FakeClient()
    client.list_error = KubeApiError(403, "Forbidden", "pods is forbidden")
    informer = Informer(client, "/api/v1/pods", reflector=ReflectorOptions(backoff=counted()))
    task = asyncio.create_task(informer.run())
    await settle(20)
    since = informer.failing_since
    await settle(20)
    assert since and informer.failing_since == since, "of the first failure, not of the newest"
    client.list_error = None
    await settle(50)
    assert informer.error is None and not informer.failing_since
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
