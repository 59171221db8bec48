"""/configz: the configuration in force, as a KubeletConfiguration."""

from __future__ import annotations

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kubeletconfig": api.component.configuration})

    app.router.add_get("/configz", handle)
