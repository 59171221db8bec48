"""The wish to stop the pod, and work that it interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from vk_provider.agent.worker.errors import InterruptedByStop

ResultT = TypeVar("ResultT")


class StopRequest:
    """Set once, when the pod is deleted, evicted, over its deadline or done."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def interrupts(self, awaitable: Awaitable[ResultT]) -> ResultT:
        """Await, unless the pod has to stop meanwhile: then cancel it and raise InterruptedByStop."""
        task = asyncio.ensure_future(awaitable)
        stop = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise InterruptedByStop("the pod is being stopped")
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
