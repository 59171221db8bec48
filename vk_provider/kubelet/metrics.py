"""/metrics: the provider's own metrics; /metrics/slis: its health checks as metrics."""

from __future__ import annotations

from aiohttp import web

from vk_provider.aiokit.metrics import CONTENT_TYPE
from vk_provider.kubelet.api import KubeletApi
from vk_provider.kubelet.healthz import CHECKS


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def metrics(_: web.Request) -> web.StreamResponse:
        return web.Response(body=api.registry.render().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def slis(_: web.Request) -> web.StreamResponse:
        return web.Response(body=render_slis(api.is_healthy()).encode(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/metrics/slis", slis)


def render_slis(healthy: bool) -> str:
    """kubernetes_healthcheck of every check of /healthz."""
    lines = [
        "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.",
        "# TYPE kubernetes_healthcheck gauge",
    ]
    for check in CHECKS:
        value = 1 if check != "syncloop" or healthy else 0
        lines.append(f'kubernetes_healthcheck{{name="{check}",type="healthz"}} {value}')
    return "\n".join(lines) + "\n"
