"""An endpoint that is scraped: the text is made and sent in parts, and other work has its turn between two. No more of
it than a part is in memory, however much the agents have said; and the samples that it is made of are kept for a slow
reader only so long, and for so many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from vk_provider.aiokit.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

READ_LIMIT_S = 60.0
"""For the whole of an answer. Prometheus waits for 10 s unless it is told otherwise (scrape_timeout)."""
MAX_READERS = 8
"""Answers of one endpoint at a time: one more, and the one that has begun first is broken off."""


def add_exposition(app: web.Application, path: str, render: Callable[[], Awaitable[Iterable[str]]]) -> None:
    """GET `path`. render: the parts of the text, made one by one as they are asked for."""
    readers = _Readers()

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            async with readers.admit():
                return await _answer(request, await render())
        except TimeoutError:
            log.warning("%s is broken off for a reader that takes too long: %s", path, request.remote)
            raise ConnectionResetError("the reader takes too long") from None

    app.router.add_get(path, handle)


async def _answer(request: web.Request, texts: Iterable[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    await response.prepare(request)
    for text in texts if request.method != "HEAD" else ():
        if text:
            await response.write(text.encode())
        await asyncio.sleep(0)
    await response.write_eof()
    return response


class _Readers:
    """Who is answered now, in the order in which they came."""

    def __init__(self) -> None:
        self._limits: list[asyncio.Timeout] = []

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Raises TimeoutError after the limit, or when others want the place."""
        async with asyncio.timeout(READ_LIMIT_S) as limit:
            self._limits.append(limit)
            try:
                running = [each for each in self._limits if not each.expired()]
                if len(running) > MAX_READERS:
                    running[0].reschedule(asyncio.get_running_loop().time())
                yield
            finally:
                self._limits.remove(limit)
