"""One worker per key."""

from __future__ import annotations

import asyncio

from vk_provider.aiokit.supervisor import RootTaskError, Supervisor
from vk_provider.aiokit.workers import KeyedWorkers


async def test_wakes_during_a_run_cause_exactly_one_more_run() -> None:
    runs: list[str] = []
    gate = asyncio.Event()

    async def handle(key: str) -> None:
        runs.append(key)
        await gate.wait()

    workers = KeyedWorkers("t", handle)
    workers.wake("a")
    await asyncio.sleep(0)
    for _ in range(3):
        workers.wake("a")
    gate.set()
    assert await workers.drain(1.0)
    assert runs == ["a", "a"]
    assert len(workers) == 0


async def test_keys_do_not_wait_for_each_other() -> None:
    done = asyncio.Event()

    async def handle(key: str) -> None:
        if key == "slow":
            await asyncio.sleep(60)
        done.set()

    workers = KeyedWorkers("t", handle)
    workers.wake("slow")
    workers.wake("quick")
    await asyncio.wait_for(done.wait(), 1.0)
    await workers.close()


async def test_a_failure_is_retried_with_back_off() -> None:
    tries: list[int] = []
    done = asyncio.Event()

    async def handle(key: str) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("first")
        done.set()

    workers = KeyedWorkers("t", handle)
    workers.wake("a")
    await asyncio.wait_for(done.wait(), 5.0)
    assert len(tries) == 2
    await workers.close()


async def test_a_delay_wakes_again_and_an_earlier_wake_wins() -> None:
    runs = 0

    async def handle(key: str) -> float | None:
        nonlocal runs
        runs += 1
        return 60.0 if runs == 1 else None

    workers = KeyedWorkers("t", handle)
    workers.wake("a")
    await workers.drain(1.0)
    workers.wake("a")
    await workers.drain(1.0)
    assert runs == 2
    await workers.close()


async def test_a_root_task_that_ends_by_itself_is_an_error() -> None:
    async def ends() -> None:
        return

    supervisor = Supervisor()
    supervisor.start("loop", ends())
    try:
        await supervisor.wait()
    except RootTaskError as error:
        assert "loop ended unexpectedly" in str(error)
    else:
        raise AssertionError("no error")
    await supervisor.cancel()


async def test_a_requested_stop_is_no_error() -> None:
    supervisor = Supervisor()
    supervisor.start("loop", asyncio.sleep(3600))
    supervisor.request_stop()
    await supervisor.wait()
    await supervisor.cancel()


async def test_a_root_task_that_was_started_while_somebody_waits_is_watched_too() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    supervisor = Supervisor()
    waiting = asyncio.create_task(supervisor.wait())
    await asyncio.sleep(0)
    supervisor.start("late", fails())
    try:
        await asyncio.wait_for(waiting, 1.0)
    except RootTaskError as error:
        assert "late failed: broken" in str(error)
    else:
        raise AssertionError("no error")


async def test_root_tasks_that_are_cancelled_on_purpose_are_no_error() -> None:
    supervisor = Supervisor()
    supervisor.start("loop", asyncio.sleep(3600))
    await supervisor.cancel(["loop"])
    waiting = asyncio.create_task(supervisor.wait())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    supervisor.request_stop()
    await waiting
