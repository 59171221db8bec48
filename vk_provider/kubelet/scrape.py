"""An endpoint that is scraped: the text is made in parts, and other work has its turn between two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from vk_provider.aiokit.exposition import CONTENT_TYPE


def add_exposition(app: web.Application, path: str, render: Callable[[], Awaitable[Iterable[str]]]) -> None:
    """GET `path`. render: the parts of the text, made one by one as they are asked for."""

    async def handle(_: web.Request) -> web.StreamResponse:
        texts = []
        for text in await render():
            texts.append(text)
            await asyncio.sleep(0)
        return web.Response(body="".join(texts).encode(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get(path, handle)
