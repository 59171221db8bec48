"""Permits that nobody can keep for ever."""

from __future__ import annotations

import asyncio

from vk_provider.aiokit.permits import Permits


async def test_a_permit_is_given_back_once_and_then_to_the_next() -> None:
    permits = Permits(1, 60.0)
    first = await permits.acquire()
    waiting = asyncio.create_task(permits.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    first.release()
    second = await waiting
    third = asyncio.create_task(permits.acquire())
    await asyncio.sleep(0)
    assert not third.done()
    second.release()
    (await third).release()


async def test_a_permit_that_is_kept_too_long_counts_as_given_back() -> None:
    permits = Permits(1, 0.0)
    await permits.acquire()
    (await asyncio.wait_for(permits.acquire(), 5.0)).release()
