"""/metrics/cadvisor: cAdvisor's container metrics from pushed samples.

Agents send name, labels and value; type and help text of each metric are wire.cadvisor's, the pod's labels are added
here. A metric that is not in the table is not rendered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from aiohttp import web

from vk_provider.aiokit.exposition import format_head, format_labels, format_value
from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kubelet.samples import BATCH, NodeSamples, name_of, parse_datetime
from vk_provider.kubelet.scrape import add_exposition
from vk_provider.wire.cadvisor import COUNTERS, GAUGES

CHUNK = 500
"""Samples of one part of the text: some hundred kilobytes at most."""

Point = tuple[Mapping[str, str], Mapping[str, str], float, str]
"""Labels of the container, of the sample, its value and its time."""


def families() -> Iterator[tuple[str, str, str]]:
    """Name, type and help text of each metric."""
    for kind, table in (("counter", COUNTERS), ("gauge", GAUGES)):
        for name, help_text in table.items():
            yield name, kind, help_text


def render_cadvisor_metrics(samples: Iterable[Json]) -> Iterator[str]:
    """Text of one family after another, by name, in pieces of at most CHUNK samples; families without a sample are left
    out. Before the first, "" a few times: what there is was gone through a little further."""
    points: defaultdict[str, list[Point]] = defaultdict(list)
    for number, sample in enumerate(samples):
        with contained(f"the cAdvisor metrics of pod {name_of(sample)}"):
            _collect_points(sample, points)
        if number % BATCH == BATCH - 1:
            yield ""
    for name, kind, help_text in sorted(families()):
        found = points.pop(name, ())
        head = format_head(name, kind, help_text)
        for start in range(0, len(found), CHUNK):
            lines = [line for point in found[start : start + CHUNK] if (line := _render(name, point))]
            if lines:
                yield head + "".join(lines)
                head = ""


def _collect_points(sample: Json, points: defaultdict[str, list[Point]]) -> None:
    reference = sample["pod"].get("podRef") or {}
    moment = parse_datetime(sample["timestamp"])
    stamp = "" if moment is None else f" {round(moment.timestamp() * 1000)}"
    for container in sample.get("cadvisor") or ():
        common = {
            "container": container.get("container", ""),
            "id": container.get("id", ""),
            "image": container.get("image", ""),
            "name": container.get("name", ""),
            "namespace": reference.get("namespace", ""),
            "pod": reference.get("name", ""),
        }
        for name, labels, value in container.get("samples") or ():
            points[name].append((common, labels, value, stamp))


def _render(name: str, point: Point) -> str:
    common, labels, value, stamp = point
    with contained(f"a sample of {name}"):
        text = format_labels(sorted({**labels, **common}.items()))
        return f"{name}{text} {format_value(value)}{stamp}\n"
    return ""


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def render() -> Iterator[str]:
        return render_cadvisor_metrics(await samples.collect())

    add_exposition(app, "/metrics/cadvisor", render)
