"""A stop takes every step, the last first, whatever one of them does."""

from __future__ import annotations

import asyncio
import logging

import pytest

from vk_provider.aiokit import stopsteps
from vk_provider.aiokit.stopsteps import StopSteps


class Told:
    """Steps that note when they are taken."""

    def __init__(self) -> None:
        self.steps, self.taken = StopSteps(), list[str]()

    def add(self, name: str) -> None:
        async def stop() -> None:
            await asyncio.sleep(0)
            self.taken.append(name)

        self.steps.add(name, stop)


async def test_what_was_started_last_is_stopped_first_and_only_once() -> None:
    told = Told()
    for name in ("clients", "cloud", "server"):
        told.add(name)
    await told.steps.run()
    await told.steps.run()
    assert told.taken == ["server", "cloud", "clients"]


@pytest.mark.parametrize("error", [OSError("gone"), asyncio.CancelledError()])
async def test_a_step_that_fails_leaves_out_no_other(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()

    async def fails() -> None:
        raise error

    told.add("first")
    told.steps.add("broken", fails)
    told.add("last")
    await told.steps.run()
    assert told.taken == ["last", "first"]
    if isinstance(error, OSError):
        assert "stopping: broken failed: gone" in caplog.text


async def test_a_step_that_hangs_is_named_and_given_up_even_when_it_cannot_be_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopsteps, "CANCEL_LIMIT_S", 0.01)
    told, ended = Told(), asyncio.Event()

    async def hangs() -> None:
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                pass

    told.add("first")
    told.steps.add("stuck", hangs, limit_s=0.01)
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(told.steps.run(), 5.0)
    ended.set()
    assert told.taken == ["first"] and "stuck took longer than" in caplog.text


async def test_a_cancelled_stop_is_finished_before_the_cancellation_is_raised() -> None:
    told, reached, open_ = Told(), asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        reached.set()
        await open_.wait()

    told.add("first")
    told.steps.add("slow", waits)
    stopping = asyncio.create_task(told.steps.run())
    await reached.wait()
    stopping.cancel()
    await asyncio.sleep(0)
    assert not stopping.done()
    stopping.cancel()
    open_.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(stopping, 5.0)
    assert told.taken == ["first"]


async def test_a_step_added_while_others_are_taken_is_taken_too() -> None:
    """A start that was cancelled may still be on its way."""
    told = Told()

    async def late() -> None:
        told.add("late")

    told.add("first")
    told.steps.add("starting", late)
    await told.steps.run()
    assert told.taken == ["late", "first"]
