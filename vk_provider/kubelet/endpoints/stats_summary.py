"""/stats/summary (GET and POST; `only_cpu_and_memory=true`)."""

from __future__ import annotations

import orjson
from aiohttp import web

from vk_provider.kubelet.api import encode_each
from vk_provider.kubelet.samples import NodeSamples


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        only = request.query.get("only_cpu_and_memory", "").lower() in ("true", "1")
        summary = await samples.build_summary(only)
        pods = b",".join(encode_each(summary["pods"], "the stats of a pod"))
        body = b'{"node":%b,"pods":[%b]}' % (orjson.dumps(summary["node"]), pods)
        return web.Response(body=body, content_type="application/json")

    app.router.add_get("/stats/summary", handle)
    app.router.add_post("/stats/summary", handle)
