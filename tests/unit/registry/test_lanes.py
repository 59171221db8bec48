"""Turns at registries, by what their hosts have done."""

from __future__ import annotations

import asyncio

import pytest

from vk_provider.registry.lanes import Lanes


async def ask(lanes: Lanes, host: str, lasts: asyncio.Event | None = None) -> None:
    async with lanes.turn(host):
        if lasts is not None:
            await lasts.wait()


@pytest.mark.parametrize(("waited_s", "is_doubted"), [(0.1, False), (5.0, True)])
async def test_a_request_that_is_given_up_at_once_is_not_held_against_its_host(
    waited_s: float, *, is_doubted: bool
) -> None:
    now = 100.0
    lanes = Lanes(lambda: now)
    await ask(lanes, "docker.io")
    task = asyncio.create_task(ask(lanes, "docker.io", asyncio.Event()))
    await asyncio.sleep(0)
    now += waited_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    end = asyncio.Event()
    others = [asyncio.create_task(ask(lanes, "docker.io", end)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert lanes._other.turns._value == (6 if is_doubted else 8)
    end.set()
    await asyncio.gather(*others)
