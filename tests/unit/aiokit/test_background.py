"""Tasks and timers that nobody waits for."""

from __future__ import annotations

import asyncio

import pytest

from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.aiokit.timers import Timers


async def test_tasks_are_cancelled_at_once_and_waited_for() -> None:
    tasks, ended = BackgroundTasks(), []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    for name in ("a", "b"):
        tasks.spawn(work(name), name)
    await asyncio.sleep(0)
    assert len(tasks) == 2
    await tasks.close()
    assert sorted(ended) == ["a", "b"] and not tasks


async def test_nothing_begins_after_the_close() -> None:
    tasks, begun = BackgroundTasks(), []

    async def work() -> None:
        begun.append("late")

    await tasks.close()
    tasks.spawn(work(), "late")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not tasks and not begun


async def test_a_task_that_fails_is_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks()

    async def fail() -> None:
        raise ValueError("of a bug")

    await asyncio.wait({tasks.spawn(fail(), "the work")})
    await asyncio.sleep(0)
    assert not tasks and "the work failed" in caplog.text and "of a bug" in caplog.text


async def test_a_timer_fires_once_and_a_cancelled_one_never() -> None:
    timers, fired = Timers(), []
    timers.later(0.0, lambda: fired.append("first"))
    await asyncio.sleep(0.01)
    timers.later(0.01, lambda: fired.append("second"))
    timers.cancel()
    await asyncio.sleep(0.03)
    assert fired == ["first"]
