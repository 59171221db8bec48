"""/stats/summary (GET and POST; `only_cpu_and_memory=true`)."""

from __future__ import annotations

import orjson
from aiohttp import web

from vk_provider.kubelet.samples import NodeSamples


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        only = request.query.get("only_cpu_and_memory", "").lower() in ("true", "1")
        body = orjson.dumps(await samples.build_summary(only))
        return web.Response(body=body, content_type="application/json")

    app.router.add_get("/stats/summary", handle)
    app.router.add_post("/stats/summary", handle)
