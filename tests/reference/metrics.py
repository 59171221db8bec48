"""Metrics, from what registers and renders them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import Mock

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from tests.reference.markdown import code, table
from tests.unit.kube.fakeclient import FakeClient
from vk_provider.agent.metrics import build_families
from vk_provider.agent.stats.cgroup import CgroupFigures, CpuFigures, MemoryFigures
from vk_provider.agent.stats.document import ContainerSample, build_cadvisor
from vk_provider.agent.stats.machine import InterfaceCounters
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.kubelet.endpoints import metrics_cadvisor, metrics_probes, metrics_resource
from vk_provider.kubelet.endpoints.metrics import render_slis
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.metrics import LedgerMetrics
from vk_provider.metrics import ProcessMetrics
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.pods.metrics import PodMetrics
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.routing.policies import PolicyRouting
from vk_provider.routing.service import ServiceRouting
from vk_provider.wire import routes

Row = tuple[str, str, str, str]
"""Name, type, labels, help."""
_TIME = "2026-01-01T00:00:00Z"


def list_pages() -> Iterator[tuple[str, list[Row]]]:
    """Where metrics are asked for -> rows."""
    yield "Provider: `/metrics`", sorted(_list_registered(_fill_registry()))
    yield "Provider: `/metrics/slis`", _read(render_slis(True))
    yield "Provider: `/metrics/resource`", _read("".join(metrics_resource.render_resource_metrics(_build_summary())))
    yield "Provider: `/metrics/cadvisor`", _read("".join(metrics_cadvisor.render_cadvisor_metrics([_build_sample()])))
    yield "Provider: `/metrics/probes`", _read("".join(metrics_probes.render_probe_metrics([_build_sample()])))
    families = build_families(Mock(), Mock(), Mock())  # which are asked only for values
    yield (
        f"Agent: `{routes.METRICS}`, for the provider only",
        [(each.name, "gauge", ", ".join(each.labels), each.help_text) for each in families],
    )


def build() -> str:
    parts = ["## Metrics\n"]
    for title, rows in list_pages():
        shown = [(code(name), kind, labels, text) for name, kind, labels, text in rows]
        parts += [f"### {title}\n", table(("name", "type", "labels", "help"), shown)]
    return "\n".join(parts)


def _fill_registry() -> CollectorRegistry:
    """With all that the provider registers."""
    registry, client = CollectorRegistry(), FakeClient()
    ProcessMetrics(registry)
    pods = PodMetrics(registry)
    ImageMetrics(registry).follow(lambda: (), lambda: 0)
    PeerMetrics(registry).follow(lambda: (0, 0, 0))
    pods.follow(dict, int)
    instances = InstanceMetrics(registry)
    instances.follow(dict, int, int)
    instances.follow_shortages(list)
    instances.follow_budget(dict, int)
    LedgerMetrics(registry).follow(Meter(lambda _: None), bool, int)
    instances.follow_pools(dict, dict)
    pods.tables.follow(list)
    ServiceRouting(client, ServiceEnvironment(client), registry)
    PolicyRouting(client, registry)
    return registry


def _list_registered(registry: CollectorRegistry) -> Iterator[Row]:
    collectors: Iterable[Collector] = registry._collector_to_names
    for collector in collectors:
        describe = getattr(collector, "describe", collector.collect)
        for family in describe():
            # A family without samples does not say the names of its labels.
            labels = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, ", ".join(labels), family.documentation


def _read(text: str) -> list[Row]:
    """The rows of an exposition that has a sample of each family, in which no label value has a blank or a quote."""
    rows = []
    for head in text.split("# HELP ")[1:]:
        documented, typed, sample = head.splitlines()[:3]
        name, _, help_text = documented.partition(" ")
        labels = re.findall(r'(\w+)="', sample)
        rows.append((name, typed.split()[-1], ", ".join(labels), help_text))
    return rows


def _build_figures() -> dict[str, Any]:
    return {
        "cpu": {"time": _TIME, "usageCoreNanoSeconds": 1},
        "memory": {"time": _TIME, "workingSetBytes": 1},
        "swap": {"time": _TIME, "swapUsageBytes": 1, "swapAvailableBytes": 1},
        "startTime": _TIME,
    }


def _build_summary() -> dict[str, Any]:
    container = {"name": "container", **_build_figures()}
    pod = {"podRef": {"namespace": "namespace", "name": "pod"}, "containers": [container], **_build_figures()}
    return {"node": _build_figures(), "pods": [pod]}


def _build_sample() -> dict[str, Any]:
    """Of one pod, with every metric that an agent can measure."""
    figures = CgroupFigures(CpuFigures(shares=1, quota_us=1, period_us=1), MemoryFigures(max_usage=1, limit=1))
    container = ContainerSample("container", "ID", "image", _TIME, figures, 1, rootfs_used=1, started_s=1.0)
    return {
        "podUID": "uid",
        "timestamp": _TIME,
        "pod": {"podRef": {"namespace": "namespace", "name": "pod"}},
        "cadvisor": build_cadvisor(1.0, [container], container, [InterfaceCounters("eth0", *[1] * 8)]),
        "probes": [{"container": "container", "probeType": "Liveness", "result": "successful", "count": 1}],
    }
