"""An endpoint that is scraped: the text is made and sent in parts, and other work has its turn between two. No more of
it than a part is in memory, however much the agents have said; of the samples that it is made of, see readers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from vk_provider.aiokit.exposition import CONTENT_TYPE
from vk_provider.kubelet.readers import Readers


def add_exposition(app: web.Application, path: str, render: Callable[[], Awaitable[Iterable[str]]]) -> None:
    """GET `path`. render: the parts of the text, made one by one as they are asked for."""
    readers = Readers()

    async def handle(request: web.Request) -> web.StreamResponse:
        async with readers.admit(request):
            texts = await render()
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
            await response.prepare(request)
            for text in texts if request.method != "HEAD" else ():
                if text:
                    await response.write(text.encode())
                await asyncio.sleep(0)
            await response.write_eof()
            return response

    app.router.add_get(path, handle)
