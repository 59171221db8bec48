"""/statusz and /flagz: plain text pages for people."""

from __future__ import annotations

import sys
import time

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi

WARNING = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees "
WARNING += "and is for debugging purposes only.\n"


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def statusz(_: web.Request) -> web.StreamResponse:
        return web.Response(text=render_statusz(api, time.time(), list_paths(app)))

    async def flagz(_: web.Request) -> web.StreamResponse:
        lines = [f"{name}={value}" for name, value in sorted(api.component.flags.items())]
        return web.Response(text="\nkubelet flagz\n" + WARNING + "\n" + "\n".join(lines) + "\n")

    app.router.add_get("/statusz", statusz)
    app.router.add_get("/flagz", flagz)


def list_paths(app: web.Application) -> list[str]:
    """The first segments of all routes."""
    return sorted({"/" + resource.canonical.split("/")[1] for resource in app.router.resources()})


def render_statusz(api: KubeletApi, now: float, paths: list[str]) -> str:
    """Text of /statusz."""
    seconds = max(0, int(now - api.component.started_at))
    days, rest = divmod(seconds, 86400)
    uptime = (f"{days} day " if days else "") + f"{rest // 3600} hr {rest % 3600 // 60:02d} min {rest % 60:02d} sec"
    started = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(api.component.started_at))
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"\nkubelet statusz\n{WARNING}\nStarted: {started}\nUp: {uptime}\n"
        f"Python version: {python}\nBinary version: {api.component.version}\nPaths: {' '.join(paths)}\n"
    )
