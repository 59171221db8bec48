"""/metrics/probes: how often probes of each container succeeded and failed, from pushed samples."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from vk_provider.aiokit.exposition import CONTENT_TYPE, format_head, format_labels, format_value
from vk_provider.jsontypes import Json
from vk_provider.kubelet.samples import NodeSamples

PROBES = (
    "prober_probe_total",
    "counter",
    "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
)


def render_probe_metrics(samples: Iterable[Json]) -> str:
    """The exposition text; "" before the first probe."""
    lines = []
    for sample in samples:
        reference = sample["pod"].get("podRef") or {}
        for probe in sample.get("probes") or ():
            labels = format_labels(
                (
                    ("container", probe["container"]),
                    ("namespace", reference.get("namespace", "")),
                    ("pod", reference.get("name", "")),
                    ("pod_uid", sample["podUID"]),
                    ("probe_type", probe["probeType"]),
                    ("result", probe["result"]),
                )
            )
            lines.append(f"prober_probe_total{labels} {format_value(probe['count'])}\n")
    return format_head(*PROBES) + "".join(lines) if lines else ""


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        text = render_probe_metrics(await samples.collect())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/metrics/probes", handle)
