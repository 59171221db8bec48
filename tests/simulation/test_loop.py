"""The loop of the simulation: virtual time, and processes of which nothing runs once they were killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextvars import Context
from typing import Any
from weakref import WeakSet

import pytest

from tests.simulation.clock import VirtualClock
from tests.simulation.loop import PROCESS, NothingLeftError, Reply, SimulationLoop, outside_later

_kept: list[Any] = []
"""What is left of killed processes: to collect it would run its `finally` blocks."""


class Victim:
    """A process that dies before its callback number `dies_at`."""

    def __init__(self, dies_at: int = 1_000_000) -> None:
        self.is_dead = False
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.steps = 0
        self._dies_at = dies_at

    def step(self) -> None:
        self.steps += 1
        if self.steps >= self._dies_at:
            self.kill()

    def kill(self) -> None:
        self.is_dead = True
        for task in self.tasks:
            task._log_destroy_pending = False
        _kept.append((self, list(self.tasks)))

    def start(self, loop: SimulationLoop, coroutine: Any) -> asyncio.Task[Any]:
        context = Context()
        context.run(PROCESS.set, self)
        return loop.create_task(coroutine, context=context)


@pytest.fixture
def loop() -> Iterator[SimulationLoop]:
    errors: list[dict[str, Any]] = []
    made = SimulationLoop(lambda process, context: errors.append(context), VirtualClock())
    yield made
    made.close()
    assert not errors


def test_an_hour_takes_no_time(loop: SimulationLoop) -> None:
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(3600.0))
    assert loop.time() >= 4600.0 and time.monotonic() - began < 5.0


def test_timers_fire_in_their_order_and_cancelled_ones_never(loop: SimulationLoop) -> None:
    seen: list[str] = []
    loop.call_later(2.0, seen.append, "second")
    loop.call_later(1.0, seen.append, "first")
    loop.call_later(1.5, seen.append, "never").cancel()
    loop.run_until_complete(asyncio.sleep(3.0))
    assert seen == ["first", "second"]


def test_that_everybody_waits_is_an_error(loop: SimulationLoop) -> None:
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(NothingLeftError):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)


def test_a_thread_is_a_later_turn(loop: SimulationLoop) -> None:
    async def ask() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert loop.run_until_complete(ask()) == 7


@pytest.mark.parametrize("dies_at", range(2, 12))
def test_a_killed_process_starts_nothing_more(loop: SimulationLoop, dies_at: int) -> None:
    victim, seen = Victim(dies_at), list[int]()

    async def live() -> None:
        try:
            while True:
                seen.append(victim.steps)
                asyncio.get_running_loop().call_later(0.5, seen.append, victim.steps)
                await asyncio.gather(asyncio.sleep(0.1), asyncio.to_thread(seen.append, victim.steps))
        finally:
            seen.append(-1)

    async def watch() -> None:
        await asyncio.sleep(10.0)
        count = len(seen)
        await asyncio.sleep(10.0)
        assert len(seen) == count

    victim.start(loop, live())
    loop.run_until_complete(watch())
    assert victim.is_dead and all(step < dies_at for step in seen) and -1 not in seen


def test_what_a_killed_process_has_asked_for_goes_on_outside(loop: SimulationLoop) -> None:
    victim, arrived, got = Victim(), list[str](), list[str]()

    async def live() -> None:
        reply = Reply()
        outside_later(1.0, lambda: (arrived.append("request"), reply.deliver(ValueError("no"))))
        got.append(await reply.wait())

    async def kill() -> None:
        await asyncio.sleep(0.5)
        victim.kill()
        await asyncio.sleep(5.0)

    victim.start(loop, live())
    loop.run_until_complete(kill())
    assert arrived == ["request"] and got == []
