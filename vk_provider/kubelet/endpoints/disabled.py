"""Endpoints that need a host behind the Node, answered like a kubelet that has them disabled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

_DISABLED = (
    ("/logs", "logs endpoint is disabled.\n"),
    ("/debug/pprof", "profiling endpoint is disabled.\n"),
    ("/debug/flags/v", "flags endpoint is disabled.\n"),
)


def add_routes(app: web.Application) -> None:
    """405 with the kubelet's text. A kubelet then registers no handler for /checkpoint, so it stays a 404."""
    for root, body in _DISABLED:
        handler = _answer(body)
        app.router.add_route("*", root, handler)
        app.router.add_route("*", root + "/{rest:.*}", handler)


def _answer(body: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=405, text=body)

    return handle
