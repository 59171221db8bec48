"""How fast calls are made after some were too fast."""

from __future__ import annotations

import asyncio

import pytest

from vk_provider.errors import CloudThrottledError
from vk_provider.instances.pace import FASTER, FIRST_PAUSE_S, MAX_PAUSE_S, NO_PAUSE_S, SLOWER, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def throttled(pace: Pace, gate: asyncio.Event, retry_after_s: float = 0.0) -> None:
    with pytest.raises(CloudThrottledError):
        async with pace.turn():
            await gate.wait()
            raise CloudThrottledError("RequestLimitExceeded", retry_after_s)


async def together(pace: Pace, count: int, retry_after_s: float = 0.0) -> None:
    """So many calls that are under way at the same time, all refused."""
    gate = asyncio.Event()
    calls = [asyncio.create_task(throttled(pace, gate, retry_after_s)) for _ in range(count)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)


async def test_calls_that_were_under_way_together_slow_down_once() -> None:
    clock = Clock()
    pace = Pace(16, clock)
    await together(pace, 10)
    assert (pace.pause_s, pace.wait_s) == (FIRST_PAUSE_S, FIRST_PAUSE_S)
    clock.now += FIRST_PAUSE_S
    await together(pace, 1)
    assert pace.wait_s == pace.pause_s == FIRST_PAUSE_S * SLOWER


async def test_the_pause_has_a_limit_and_goes_away_with_calls_that_pass() -> None:
    clock = Clock()
    pace = Pace(1, clock)
    for _ in range(20):
        clock.now += pace.wait_s
        await together(pace, 1)
    assert pace.pause_s == MAX_PAUSE_S
    pauses = [pace.pause_s]
    while pace.pause_s:
        clock.now += pace.wait_s
        async with pace.turn():
            pass
        pauses.append(pace.pause_s)
    assert pauses[1] == MAX_PAUSE_S * FASTER and min(filter(None, pauses)) >= NO_PAUSE_S
    assert pace.wait_s <= MAX_PAUSE_S


async def test_the_delay_that_the_cloud_names_is_kept_by_all() -> None:
    pace = Pace(16, Clock())
    await together(pace, 3, retry_after_s=7.0)
    assert (pace.pause_s, pace.wait_s) == (FIRST_PAUSE_S, 7.0)


async def test_a_call_that_began_before_it_was_too_fast_does_not_make_it_faster() -> None:
    clock, gate = Clock(), asyncio.Event()
    pace = Pace(16, clock)

    async def slow() -> None:
        async with pace.turn():
            await gate.wait()

    call = asyncio.create_task(slow())
    await asyncio.sleep(0)
    await together(pace, 1)
    gate.set()
    await call
    assert pace.pause_s == FIRST_PAUSE_S
