"""/metrics/resource: CPU and memory of Node, pods and containers; what metrics-server scrapes.

Names, help texts and labels are pkg/kubelet/metrics/collectors/resource_metrics.go's. Samples carry the time at which
the agent took them, so that rates do not depend on the time of the scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from vk_provider.aiokit.exposition import format_head, format_labels, format_value
from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kubelet.samples import NANOSECONDS, NodeSamples, parse_datetime
from vk_provider.kubelet.scrape import add_exposition

CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Family:
    """One metric and where its value is in a document of /stats/summary."""

    name: str
    kind: str
    help_text: str
    find: Callable[[Json], tuple[float, int | None] | None]

    def head(self) -> str:
        return format_head(self.name, self.kind, self.help_text)

    def line(self, labels: str, document: Json) -> str | None:
        """None: the document has no such figure, or none that can be read."""
        with contained(f"{self.name}{labels}"):
            if (found := self.find(document)) is not None:
                value, milliseconds = found
                stamp = "" if milliseconds is None else f" {milliseconds}"
                return f"{self.name}{labels} {format_value(value)}{stamp}"
        return None


def _milliseconds(part: Json) -> int | None:
    moment = parse_datetime(part.get("time"))
    return None if moment is None else round(moment.timestamp() * 1000)


def _find(part: str, figure: str, divisor: int = 1) -> Callable[[Json], tuple[float, int | None] | None]:
    def find(document: Json) -> tuple[float, int | None] | None:
        found = document.get(part) or {}
        value = found.get(figure)
        if value is None:
            return None
        return (value / divisor if divisor != 1 else value), _milliseconds(found)

    return find


def _find_start(document: Json) -> tuple[float, int | None] | None:
    moment = parse_datetime(document.get("startTime"))
    return None if moment is None or moment.timestamp() <= 0 else (moment.timestamp(), None)


def _find_swap_limit(document: Json) -> tuple[float, int | None] | None:
    swap = document.get("swap") or {}
    if swap.get("swapAvailableBytes") is None:
        return None
    return swap["swapAvailableBytes"] + (swap.get("swapUsageBytes") or 0), _milliseconds(swap)


_CPU = _find("cpu", "usageCoreNanoSeconds", NANOSECONDS)
_MEMORY = _find("memory", "workingSetBytes")
_SWAP = _find("swap", "swapUsageBytes")
_NOT_WINDOWS = "Reported only on non-windows systems"

CONTAINER_FAMILIES = (
    Family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        _CPU,
    ),
    Family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        _MEMORY,
    ),
    Family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        _find_start,
    ),
    Family(
        "container_swap_limit_bytes",
        "gauge",
        f"[ALPHA] Current amount of the container swap limit in bytes. {_NOT_WINDOWS}",
        _find_swap_limit,
    ),
    Family(
        "container_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current amount of the container swap usage in bytes. {_NOT_WINDOWS}",
        _SWAP,
    ),
)
NODE_FAMILIES = (
    Family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        _CPU,
    ),
    Family("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes", _MEMORY),
    Family(
        "node_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current swap usage of the node in bytes. {_NOT_WINDOWS}",
        _SWAP,
    ),
)
POD_FAMILIES = (
    Family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        _CPU,
    ),
    Family("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes", _MEMORY),
    Family(
        "pod_swap_usage_bytes",
        "gauge",
        f"[ALPHA] Current amount of the pod swap usage in bytes. {_NOT_WINDOWS}",
        _SWAP,
    ),
)
SCRAPE_ERROR = (
    "resource_scrape_error",
    "gauge",
    "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
)


def render_resource_metrics(summary: Json) -> Iterator[str]:
    """Text of one family after another, by name, in pieces of at most CHUNK samples; empty families are left out."""
    containers: list[tuple[str, Json]] = []
    labelled: list[tuple[str, Json]] = []
    for number, pod in enumerate(summary["pods"]):
        with contained(f"the figures of sample {number}"):
            own = (("namespace", pod["podRef"]["namespace"]), ("pod", pod["podRef"]["name"]))
            labels = format_labels(own)
            containers += [
                (format_labels((("container", item["name"]), *own)), item) for item in pod.get("containers") or ()
            ]
            labelled.append((labels, pod))
    for families, documents in (
        (CONTAINER_FAMILIES, containers),
        (NODE_FAMILIES, [("", summary["node"])]),
        (POD_FAMILIES, labelled),
    ):
        for family in families:
            head = family.head()
            for start in range(0, len(documents), CHUNK):
                chunk = documents[start : start + CHUNK]
                lines = [line for labels, document in chunk if (line := family.line(labels, document)) is not None]
                if lines:
                    yield head + "\n".join(lines) + "\n"
                    head = ""
    yield f"{format_head(*SCRAPE_ERROR)}{SCRAPE_ERROR[0]} 0\n"


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def render() -> Iterator[str]:
        return render_resource_metrics(await samples.build_summary())

    add_exposition(app, "/metrics/resource", render)
