"""Who reads the long answers of one endpoint: what they are made of is kept for a slow reader only so long, and for so
many of them. Newer pods and samples have come meanwhile, so each reader may keep others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

log = logging.getLogger(__name__)

READ_LIMIT_S = 60.0
"""For the whole of an answer. Prometheus waits for 10 s unless it is told otherwise (scrape_timeout)."""
MAX_READERS = 8
"""Answers of one endpoint at a time: one more, and the one that has begun first is broken off."""


class Readers:
    """Of one endpoint, in the order in which they came."""

    def __init__(self) -> None:
        self._limits: list[asyncio.Timeout] = []

    @asynccontextmanager
    async def admit(self, request: web.Request) -> AsyncIterator[None]:
        """Around the making of an answer. Raises ConnectionResetError after the limit, or when others want the
        place."""
        try:
            async with asyncio.timeout(READ_LIMIT_S) as limit:
                self._limits.append(limit)
                try:
                    self._make_room()
                    yield
                finally:
                    self._limits.remove(limit)
        except TimeoutError:
            log.warning("%s is broken off for a reader that takes too long: %s", request.path, request.remote)
            raise ConnectionResetError("the reader takes too long") from None

    def _make_room(self) -> None:
        running = [limit for limit in self._limits if not limit.expired()]
        if len(running) > MAX_READERS:
            running[0].reschedule(asyncio.get_running_loop().time())
