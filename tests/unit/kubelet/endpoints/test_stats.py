"""The summary of a Node and the metrics made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.kubelet.rig import FakeHandle, FakeSource, Rig, make_instance, make_pod, running_status
from vk_provider.kubelet.endpoints.metrics_cadvisor import render_cadvisor_metrics
from vk_provider.kubelet.endpoints.metrics_probes import render_probe_metrics
from vk_provider.kubelet.endpoints.metrics_resource import render_resource_metrics
from vk_provider.kubelet.samples import CpuTotal, NodeSamples, ProcessUsage
from vk_provider.wire.values import MAX_INTEGER

TIME = "2021-06-22T20:11:18.302Z"
MS = 1624392678302


def make_sample(name: str = "web", uid: str = "uid-1", cpu_ns: int = 10_000_000_000) -> dict[str, Any]:
    cpu = {"time": TIME, "usageCoreNanoSeconds": cpu_ns, "usageNanoCores": 5}
    memory = {"time": TIME, "workingSetBytes": 1000, "usageBytes": 1200, "rssBytes": 900}
    container = {"name": "c", "startTime": "2021-06-22T20:10:48Z", "cpu": cpu, "memory": memory}
    container["swap"] = {"time": TIME, "swapUsageBytes": 1, "swapAvailableBytes": 9}
    return {
        "type": "stats",
        "podUID": uid,
        "timestamp": TIME,
        "pod": {
            "podRef": {"name": name, "namespace": "ns", "uid": uid},
            "startTime": "2021-06-22T20:10:40Z",
            "containers": [container],
            "cpu": cpu,
            "memory": memory,
            "network": {"time": TIME, "name": "eth0", "rxBytes": 1},
        },
        "node": {"cpu": cpu, "memory": memory, "network": {"rxBytes": 3, "name": "eth0"}, "fs": {"usedBytes": 7}},
    }


def test_cpu_totals_never_run_backwards_and_make_no_jump() -> None:
    total = CpuTotal()
    assert total.update([("new", 100, True), ("adopted", 900, False)]) == 100
    assert total.update([("new", 150, True), ("adopted", 950, False)]) == 200
    assert total.update([("adopted", 950, False)]) == 200
    assert total.update([("adopted", 20, False)]) == 200
    assert total.update([("adopted", 950, False)]) == 200, "a counter that jumps to and fro adds nothing"
    assert total.update([("adopted", 960, False)]) == 210


async def test_node_figures_are_those_of_instances_and_provider() -> None:
    source = FakeSource(
        [
            FakeHandle(make_pod(), running_status(), make_instance(), stats=make_sample()),
            FakeHandle(make_pod("b", "uid-2"), running_status(), make_instance(), stats=make_sample("b", "uid-2")),
            FakeHandle(make_pod("gone", "uid-3"), running_status(), None, stats=make_sample("gone", "uid-3")),
            FakeHandle(make_pod("done", "uid-4"), {"phase": "Succeeded"}, make_instance(), stats=make_sample()),
            FakeHandle(make_pod("young", "uid-5"), running_status(), make_instance()),
        ]
    )
    samples = NodeSamples("node-1", source, started_at=0.0)
    collected = await samples.collect()
    assert [sample["podUID"] for sample in collected] == ["uid-1", "uid-2"]
    node = await samples.build_node(collected, 1000.0, ProcessUsage(5, 50))
    assert node["cpu"] == {
        "time": "1970-01-01T00:16:40.000Z",
        "usageNanoCores": 0,
        "usageCoreNanoSeconds": 20_000_000_005,
    }
    assert node["memory"]["workingSetBytes"] == 2050
    assert (node["network"]["rxBytes"], node["fs"]["usedBytes"]) == (6, 14)
    later = await samples.build_node(collected, 1010.0, ProcessUsage(15, 50))
    assert later["cpu"]["usageNanoCores"] == 1


async def test_a_node_without_pods_is_never_zero() -> None:
    node = (await NodeSamples("node-1", FakeSource(), 0.0).build_summary())["node"]
    assert node["cpu"]["usageCoreNanoSeconds"] > 0 and node["memory"]["workingSetBytes"] > 0


def test_resource_metrics_have_the_kubelets_exposition() -> None:
    node = {"cpu": {"time": TIME, "usageCoreNanoSeconds": 12_500_000_000}, "memory": {"workingSetBytes": 1}}
    text = "".join(render_resource_metrics({"node": node, "pods": [make_sample()["pod"]]}))
    assert (
        text
        == f"""\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="web"}} 10 {MS}
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{{container="c",namespace="ns",pod="web"}} 1000 {MS}
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{{container="c",namespace="ns",pod="web"}} 1624392648
# HELP container_swap_limit_bytes [ALPHA] Current amount of the container swap limit in bytes. Reported only on \
non-windows systems
# TYPE container_swap_limit_bytes gauge
container_swap_limit_bytes{{container="c",namespace="ns",pod="web"}} 10 {MS}
# HELP container_swap_usage_bytes [ALPHA] Current amount of the container swap usage in bytes. Reported only on \
non-windows systems
# TYPE container_swap_usage_bytes gauge
container_swap_usage_bytes{{container="c",namespace="ns",pod="web"}} 1 {MS}
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 12.5 {MS}
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{{namespace="ns",pod="web"}} 10 {MS}
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{{namespace="ns",pod="web"}} 1000 {MS}
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
"""
    )


def test_cadvisor_metrics_carry_the_pods_labels() -> None:
    sample = make_sample()
    sample["cadvisor"] = [
        {
            "container": "c",
            "id": "/x/abc",
            "name": "abc",
            "image": "i:1",
            "samples": [["container_cpu_usage_seconds_total", {"cpu": "total"}, 1.5], ["unknown_metric", {}, 1]],
        }
    ]
    assert "".join(render_cadvisor_metrics([sample])) == (
        "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.\n"
        "# TYPE container_cpu_usage_seconds_total counter\n"
        'container_cpu_usage_seconds_total{container="c",cpu="total",id="/x/abc",image="i:1",name="abc",'
        f'namespace="ns",pod="web"}} 1.5 {MS}\n'
    )


def test_probe_counts_are_rendered_per_result() -> None:
    sample = make_sample()
    sample["probes"] = [{"container": "c", "probeType": "Liveness", "result": "failed", "count": 2}]
    text = "".join(render_probe_metrics([sample]))
    assert text.endswith(
        'prober_probe_total{container="c",namespace="ns",pod="web",pod_uid="uid-1",probe_type="Liveness",'
        'result="failed"} 2\n'
    )
    assert list(render_probe_metrics([])) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_summary_is_served_in_full_and_in_short(rig: Rig, method: str) -> None:
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance(), stats=make_sample()))
    status, body, headers = await rig.ask(method, "/stats/summary")
    document = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert document["node"]["nodeName"] == "node-1"
    assert document["pods"][0]["network"]["rxBytes"] == 1
    short = json.loads((await rig.ask(method, "/stats/summary?only_cpu_and_memory=true"))[1])
    assert set(short["pods"][0]) == {"podRef", "startTime", "cpu", "memory", "containers"}
    assert "fs" not in short["node"]


async def test_scrapes_are_answered_from_memory(rig: Rig) -> None:
    rig.connector.reachable = False
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance(), stats=make_sample()))
    text = (await rig.ask("GET", "/metrics/resource"))[1]
    assert f'container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="web"}} 10 {MS}\n' in text
    for path in ("/metrics/cadvisor", "/metrics/probes", "/metrics/resource"):
        for method in ("GET", "HEAD"):
            status, _, headers = await rig.ask(method, path)
            assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_a_sum_of_figures_stays_an_int64() -> None:
    handles = []
    for uid in ("uid-1", "uid-2"):
        sample = make_sample(uid, uid)
        sample["node"]["fs"] = {"availableBytes": MAX_INTEGER}
        handles.append(FakeHandle(make_pod(uid, uid), running_status(), make_instance(), stats=sample))
    summary = await NodeSamples("node-1", FakeSource(handles), started_at=0.0).build_summary()
    assert summary["node"]["fs"]["availableBytes"] == MAX_INTEGER


async def test_what_is_left_of_a_pods_own_limit_does_not_add_up() -> None:
    sample = make_sample()
    sample["pod"]["memory"] = {"time": TIME, "workingSetBytes": 5, "availableBytes": 1 << 60}
    source = FakeSource([FakeHandle(make_pod(), running_status(), make_instance(), stats=sample)])
    summary = await NodeSamples("node-1", source, started_at=0.0).build_summary()
    (pods,) = (each for each in summary["node"]["systemContainers"] if each["name"] == "pods")
    assert pods["memory"]["workingSetBytes"] == 5 and "availableBytes" not in pods["memory"]
    assert summary["pods"][0]["memory"]["availableBytes"] == 1 << 60


BROKEN_STATS: list[Any] = [
    "a text",
    {},
    {**make_sample("broken", "uid-2"), "pod": "a text"},
    {**make_sample("broken", "uid-2"), "pod": {}},
    {**make_sample("broken", "uid-2"), "node": []},
    {**make_sample("broken", "uid-2"), "podUID": {}},
    {**make_sample("broken", "uid-2"), "timestamp": {}, "cadvisor": "x", "probes": [1]},
    {**make_sample("broken", "uid-2"), "cadvisor": [{"samples": [["container_threads", 5, "x"]]}], "probes": 5},
    {**make_sample("broken", "uid-2"), "pod": {**make_sample("broken", "uid-2")["pod"], "cpu": {"time": {}}}},
    {**make_sample("broken", "uid-2"), "pod": {**make_sample("broken", "uid-2")["pod"], "memory": object()}},
    {**make_sample("broken", "uid-2"), "pod": {**make_sample("broken", "uid-2")["pod"], "startTime": 2**70}},
]
BROKEN_STATUSES: list[Any] = [
    "a text",
    [1],
    {"phase": {}},
    {"phase": "Running", "containerStatuses": "c"},
    {"phase": "Running", "containerStatuses": [{}, 1]},
    {"phase": object()},
    {"phase": "Running", "containerStatuses": [{"name": object(), "state": {"running": {}}}]},
]
ROUTES = ["/pods", "/runningpods/", "/stats/summary", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes"]


@pytest.mark.parametrize(
    ("status", "stats"),
    [*((running_status(), stats) for stats in BROKEN_STATS), *((status, make_sample()) for status in BROKEN_STATUSES)],
    ids=[
        f"{kind}-{number}"
        for kind, all_ in (("stats", BROKEN_STATS), ("status", BROKEN_STATUSES))
        for number, _ in enumerate(all_)
    ],
)
async def test_a_broken_record_is_missing_alone_on_every_route(rig: Rig, status: Any, stats: Any) -> None:
    honest = make_sample()
    honest["cadvisor"] = [{"container": "c", "samples": [["container_threads", {}, 1]]}]
    honest["probes"] = [{"container": "c", "probeType": "Liveness", "result": "failed", "count": 2}]
    rig.source.handles += [
        FakeHandle(make_pod("broken", "uid-2"), status, make_instance(), stats=stats),
        FakeHandle(make_pod(), running_status(), make_instance(), stats=honest),
    ]
    for path in ROUTES:
        code, text, _ = await rig.ask("GET", path)
        assert code == 200 and "web" in text, path
        if not path.startswith("/metrics"):
            assert "web" in str(json.loads(text)), path
