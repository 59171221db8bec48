"""The way back of a start: what was started last is stopped first, whatever fails on the way.

An AsyncExitStack runs backwards, too, but knows no time limit: one step that hangs would keep all others from running,
and a cancellation would cut them off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

CANCEL_LIMIT_S = 1.0
"""How long a step that took too long may take to end once it is cancelled."""


@dataclass(frozen=True, slots=True)
class StopStep:
    """name: for the log; limit_s: after which it is cancelled and the next one is taken."""

    name: str
    stop: Callable[[], Awaitable[object]]
    limit_s: float


class StopSteps:
    """Steps to be taken in the reverse order of `add`. Adding one before its part is started is right where a start can
    fail half-way: steps must do nothing for what does not run."""

    def __init__(self) -> None:
        self._steps: list[StopStep] = []

    def add(self, name: str, stop: Callable[[], Awaitable[object]], limit_s: float = 5.0) -> None:
        self._steps.append(StopStep(name, stop, limit_s))

    async def run(self) -> None:
        """Take all steps, once. A cancellation is raised when they are done: each is limited, so their sum is."""
        stopping = asyncio.create_task(self._run(), name="stop")
        cancelled: asyncio.CancelledError | None = None
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        stopping.result()

    async def _run(self) -> None:
        while self._steps:
            await _take(self._steps.pop())


async def _take(step: StopStep) -> None:
    """In a task of its own: neither an error nor a CancelledError of the step ends the stop."""
    task = asyncio.create_task(_call(step.stop), name=f"stop {step.name}")
    _, late = await asyncio.wait({task}, timeout=step.limit_s)
    if late:
        log.error("stopping: %s took longer than %.0f s", step.name, step.limit_s)
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_LIMIT_S)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.error("stopping: %s failed: %s", step.name, error)


async def _call(stop: Callable[[], Awaitable[object]]) -> None:
    await stop()
