"""/metrics: the provider's own metrics; /metrics/slis: its health checks as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector

from vk_provider.aiokit.exposition import CONTENT_TYPE, format_head
from vk_provider.kubelet.api import KubeletApi
from vk_provider.kubelet.endpoints.healthz import CHECKS

HEALTHCHECK = (
    "kubernetes_healthcheck",
    "gauge",
    "[STABLE] This metric records the result of a single healthcheck.",
)
# Else one more series each, as for OpenMetrics.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's function has no types


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def metrics(_: web.Request) -> web.StreamResponse:
        return web.Response(body=await render_metrics(api.registry), headers={"Content-Type": CONTENT_TYPE})

    async def slis(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=render_slis(api.component.is_healthy()).encode(), headers={"Content-Type": CONTENT_TYPE}
        )

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/metrics/slis", slis)


class _OneMetric(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def render_metrics(registry: CollectorRegistry) -> bytes:
    """What generate_latest says, one metric in each turn of the event loop: some are computed of all pods."""
    parts = []
    for metric in registry.collect():
        parts.append(generate_latest(_OneMetric(metric)))
        await asyncio.sleep(0)
    return b"".join(parts)


def render_slis(healthy: bool) -> str:
    """kubernetes_healthcheck of every check of /healthz."""
    lines = []
    for check in CHECKS:
        value = 1 if check != "syncloop" or healthy else 0
        lines.append(f'{HEALTHCHECK[0]}{{name="{check}",type="healthz"}} {value}\n')
    return format_head(*HEALTHCHECK) + "".join(lines)
