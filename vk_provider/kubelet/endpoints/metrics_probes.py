"""/metrics/probes: how often probes of each container succeeded and failed, from pushed samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiohttp import web

from vk_provider.aiokit.exposition import format_head, format_labels, format_value
from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kubelet.samples import NodeSamples, name_of
from vk_provider.kubelet.scrape import add_exposition

PROBES = (
    "prober_probe_total",
    "counter",
    "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
)


def render_probe_metrics(samples: Iterable[Json]) -> Iterator[str]:
    """The exposition text, pod by pod; nothing before the first probe."""
    head = format_head(*PROBES)
    for sample in samples:
        text = ""
        with contained(f"the probes of pod {name_of(sample)}"):
            text = "".join(_render_lines(sample))
        if text:
            yield head + text
            head = ""


def _render_lines(sample: Json) -> Iterator[str]:
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
        yield f"prober_probe_total{labels} {format_value(probe['count'])}\n"


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def render() -> Iterator[str]:
        return render_probe_metrics(await samples.collect())

    add_exposition(app, "/metrics/probes", render)
