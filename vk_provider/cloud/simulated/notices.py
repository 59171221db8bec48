"""Notices of the simulated cloud, for all who listen when they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from vk_provider.cloud.base import Notice


class NoticeBoard:
    """is_on: whether the cloud tells anything at all."""

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on
        self._listeners: set[asyncio.Queue[Notice]] = set()

    def tell(self, notice: Notice) -> None:
        if self._is_on:
            for listener in self._listeners:
                listener.put_nowait(notice)

    async def listen(self) -> AsyncIterator[Notice]:
        """What is told from now on. Never ends."""
        queue: asyncio.Queue[Notice] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
