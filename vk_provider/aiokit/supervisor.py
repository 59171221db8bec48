"""Named root tasks: an unexpected finish is an error, a stuck stop is named in the log.

A process has a handful of root tasks (watches, servers, loops). None of them ends by itself while the process is
healthy, so the first one that does decides: the supervisor logs it, stops the others and re-raises.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class RootTaskError(Exception):
    """A root task returned or raised although it was not asked to stop."""


class Supervisor:
    """Holds root tasks until `stop` or until the first one ends."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stop_requested = False
        self._ended: asyncio.Task[Any] | None = None
        self._wake = asyncio.Event()

    def start(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a root task. Names are unique while the task runs."""
        if name in self._tasks:
            coroutine.close()
            raise ValueError(f"a root task named {name} runs already")
        task = asyncio.create_task(coroutine, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        """The first task that ends without having been cancelled here decides."""
        if self._ended is None and self._tasks.get(task.get_name()) is task:
            self._ended = task
            self._wake.set()

    def request_stop(self) -> None:
        """Make `wait` return; safe from a signal handler."""
        self._stop_requested = True
        self._wake.set()

    async def wait(self) -> None:
        """Return when a stop is requested; raise RootTaskError when a root task ends by itself, also one that was
        started while this waits."""
        await self._wake.wait()
        if self._stop_requested or self._ended is None:
            return
        task = self._ended
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise RootTaskError(f"root task {task.get_name()} failed: {error}") from error
        raise RootTaskError(f"root task {task.get_name()} ended unexpectedly")

    async def cancel(self, names: list[str] | None = None, limit_s: float = 5.0) -> None:
        """Cancel the named root tasks (all when None) and wait; those still running after the limit are named."""
        chosen = {name: task for name, task in self._tasks.items() if names is None or name in names}
        for name, task in chosen.items():
            task.cancel()
            del self._tasks[name]
        if not chosen:
            return
        _, pending = await asyncio.wait(chosen.values(), timeout=limit_s)
        for task in pending:
            log.error("root task %s did not stop within %.1f s", task.get_name(), limit_s)
        for task in chosen.values():
            if task.done() and not task.cancelled() and task.exception() is not None:
                log.warning("root task %s failed while stopping: %s", task.get_name(), task.exception())
