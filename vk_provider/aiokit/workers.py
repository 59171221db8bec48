"""One worker per key: a task that exists only while its key has work, so keys never wait for each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from vk_provider.aiokit.backoff import Backoff

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0


class KeyedWorkers:
    """Level-triggered: `wake(key)` runs `handle(key)` soon; wakes during a run cause exactly one more run.

    handle returns None, or the delay in seconds after which the key wants to be handled again. When it raises, the
    key is retried with back-off; the error is logged, never lost. The same key is never handled twice at a time.
    """

    def __init__(self, name: str, handle: Callable[[str], Awaitable[float | None]]) -> None:
        self._name = name
        self._handle = handle
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._closed = False

    def __len__(self) -> int:
        """Keys being handled now: the depth of the queue."""
        return len(self._tasks)

    def wake(self, key: str) -> None:
        if self._closed:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._tasks:
            self._again.add(key)
            return
        self._tasks[key] = asyncio.create_task(self._run(key), name=f"{self._name} {key}")

    def wake_after(self, key: str, delay_s: float) -> None:
        """Wake later; an earlier timer of the key wins."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        current = self._timers.get(key)
        if current is not None:
            if current.when() <= loop.time() + delay_s:
                return
            current.cancel()
        self._timers[key] = loop.call_later(delay_s, self._fire, key)

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.wake(key)

    async def _run(self, key: str) -> None:
        try:
            while True:
                self._again.discard(key)
                delay_s = await self._attempt(key)
                if key in self._again:
                    continue
                if delay_s is not None:
                    self.wake_after(key, delay_s)
                return
        finally:
            self._tasks.pop(key, None)
            if key in self._again and not self._closed:
                self._again.discard(key)
                self.wake(key)

    async def _attempt(self, key: str) -> float | None:
        try:
            delay_s = await self._handle(key)
        except Exception as error:
            backoff = self._backoffs.setdefault(key, Backoff(RETRY_FIRST_S, RETRY_MAX_S))
            delay_s = backoff.next_delay_s()
            log.warning("%s %s failed, again in %.1f s: %s: %s", self._name, key, delay_s, type(error).__name__, error)
            log.debug("traceback", exc_info=error)
            return delay_s
        self._backoffs.pop(key, None)
        return delay_s

    async def drain(self, limit_s: float) -> bool:
        """Wait until no key is being handled; returns False when the limit came first."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=limit_s)
        return not self._tasks

    async def close(self) -> None:
        """Cancel everything that waits or runs."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
