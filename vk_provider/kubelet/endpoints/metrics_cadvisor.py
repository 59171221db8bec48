"""/metrics/cadvisor: cAdvisor's container metrics from pushed samples.

Agents send name, labels and value; this module knows type and help text of each metric and adds the pod's labels. A
metric that is not in the table is not rendered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from aiohttp import web

from vk_provider.aiokit.exposition import format_head, format_labels, format_value
from vk_provider.jsontypes import Json
from vk_provider.kubelet.samples import NodeSamples, parse_datetime
from vk_provider.kubelet.scrape import add_exposition

_COUNTERS = {
    "container_cpu_usage_seconds_total": "Cumulative cpu time consumed in seconds.",
    "container_cpu_user_seconds_total": "Cumulative user cpu time consumed in seconds.",
    "container_cpu_system_seconds_total": "Cumulative system cpu time consumed in seconds.",
    "container_cpu_cfs_periods_total": "Number of elapsed enforcement period intervals.",
    "container_cpu_cfs_throttled_periods_total": "Number of throttled period intervals.",
    "container_cpu_cfs_throttled_seconds_total": "Total time duration the container has been throttled.",
    "container_memory_failures_total": "Cumulative count of memory allocation failures.",
    "container_memory_failcnt": "Number of memory usage hits limits",
    "container_fs_reads_bytes_total": "Cumulative count of bytes read",
    "container_fs_writes_bytes_total": "Cumulative count of bytes written",
    "container_fs_reads_total": "Cumulative count of reads completed",
    "container_fs_writes_total": "Cumulative count of writes completed",
    "container_network_receive_bytes_total": "Cumulative count of bytes received",
    "container_network_receive_packets_total": "Cumulative count of packets received",
    "container_network_receive_errors_total": "Cumulative count of errors encountered while receiving",
    "container_network_receive_packets_dropped_total": "Cumulative count of packets dropped while receiving",
    "container_network_transmit_bytes_total": "Cumulative count of bytes transmitted",
    "container_network_transmit_packets_total": "Cumulative count of packets transmitted",
    "container_network_transmit_errors_total": "Cumulative count of errors encountered while transmitting",
    "container_network_transmit_packets_dropped_total": "Cumulative count of packets dropped while transmitting",
    "container_oom_events_total": "Count of out of memory events observed for the container",
}
_GAUGES = {
    "container_memory_working_set_bytes": "Current working set in bytes.",
    "container_memory_usage_bytes": "Current memory usage in bytes, including all memory regardless of when it was "
    "accessed",
    "container_memory_rss": "Size of RSS in bytes.",
    "container_memory_cache": "Number of bytes of page cache memory.",
    "container_memory_swap": "Container swap usage in bytes.",
    "container_memory_max_usage_bytes": "Maximum memory usage recorded in bytes",
    "container_memory_mapped_file": "Size of memory mapped files in bytes.",
    "container_fs_usage_bytes": "Number of bytes that are consumed by the container on this filesystem.",
    "container_fs_limit_bytes": "Number of bytes that can be consumed by the container on this filesystem.",
    "container_processes": "Number of processes running inside the container.",
    "container_threads": "Number of threads running inside the container",
    "container_last_seen": "Last time a container was seen by the exporter",
    "container_start_time_seconds": "Start time of the container since unix epoch in seconds.",
    "container_spec_cpu_shares": "CPU share of the container.",
    "container_spec_cpu_period": "CPU period of the container.",
    "container_spec_cpu_quota": "CPU quota of the container.",
    "container_spec_memory_limit_bytes": "Memory limit for the container.",
}


def families() -> Iterator[tuple[str, str, str]]:
    """Name, type and help text of each metric."""
    for kind, table in (("counter", _COUNTERS), ("gauge", _GAUGES)):
        for name, help_text in table.items():
            yield name, kind, help_text


def render_cadvisor_metrics(samples: Iterable[Json]) -> Iterator[str]:
    """Text of one family after another, by name; families without a sample are left out."""
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for sample in samples:
        _collect_lines(sample, lines)
    for name, kind, help_text in sorted(families()):
        if name in lines:
            yield format_head(name, kind, help_text) + "\n".join(lines[name]) + "\n"


def _collect_lines(sample: Json, lines: defaultdict[str, list[str]]) -> None:
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
            text = format_labels(sorted({**labels, **common}.items()))
            lines[name].append(f"{name}{text} {format_value(value)}{stamp}")


def add_routes(app: web.Application, samples: NodeSamples) -> None:
    async def render() -> Iterator[str]:
        return render_cadvisor_metrics(await samples.collect())

    add_exposition(app, "/metrics/cadvisor", render)
