"""What a sample of an agent may say of its pod, of its Node, and how much of it."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from tests.unit.pods.test_agent_report import INSTANCE, POD
from tests.unit.wire.test_inbound import STATS, TIME
from vk_provider.errors import AgentProtocolError
from vk_provider.kubelet.endpoints.metrics_cadvisor import CHUNK, render_cadvisor_metrics
from vk_provider.kubelet.endpoints.metrics_probes import render_probe_metrics
from vk_provider.pods.agent_sample import CLOCK_SLACK_S, MAX_LABEL, MAX_LINES, accept_stats
from vk_provider.wire.inbound import decode_up
from vk_provider.wire.session import MAX_UP_BYTES
from vk_provider.wire.values import MAX_INTEGER

LINE_BYTES = 2 * (4 * MAX_LABEL + 300)
"""Of one sample whose labels are as long as they may be, and all quotes."""


def accept(message: Any) -> Any:
    return accept_stats(message, POD, INSTANCE, 2000, 1 << 30, 1100.0)


def sample(part: str, figure: str, value: int, where: str = "pod") -> Any:
    changed = copy.deepcopy(STATS)
    document = changed["pod"]["containers"][0] if where == "container" else changed[where]
    document[part] = {"time": "2026-11-28T10:00:00Z", figure: value}
    return changed


@pytest.mark.parametrize("where", ["pod", "node", "container"])
@pytest.mark.parametrize(
    ("part", "figure", "limit"),
    [
        ("cpu", "usageCoreNanoSeconds", int((100 + CLOCK_SLACK_S) * 2 * 1.25e9)),
        ("memory", "workingSetBytes", 2 << 30),
        ("memory", "usageBytes", 2 << 30),
    ],
)
def test_a_counter_beyond_what_the_instance_can_do_is_a_violation(
    where: str, part: str, figure: str, limit: int
) -> None:
    accept(sample(part, figure, limit, where))
    with pytest.raises(AgentProtocolError, match=figure):
        accept(sample(part, figure, limit + 1, where))


def test_a_sample_speaks_for_its_own_pod_and_the_specs_containers_only() -> None:
    lie = copy.deepcopy(STATS)
    lie["podUID"] = "uid-9"
    lie["pod"]["podRef"] = {"name": "victim", "namespace": "kube-system", "uid": "uid-9"}
    lie["pod"]["containers"].append({"name": "other"})
    lie["cadvisor"] += [{"container": "other"}, {"container": ""}, {"container": "c"}]
    lie["probes"].append({"container": "other", "probeType": "Liveness", "result": "failed", "count": 1})
    accepted = accept(lie)
    assert accepted["pod"]["podRef"] == POD["metadata"] and accepted["podUID"] == "uid-1"
    assert [item["name"] for item in accepted["pod"]["containers"]] == ["c"]
    assert [item["container"] for item in accepted["cadvisor"]] == ["c", ""]
    assert [item["container"] for item in accepted["probes"]] == ["c"]


def with_cadvisor(*containers: dict[str, Any]) -> Any:
    return {**copy.deepcopy(STATS), "cadvisor": list(containers)}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("container_cpu_usage_seconds_total", (100 + CLOCK_SLACK_S) * 2 * 1.25),
        ("container_cpu_system_seconds_total", (100 + CLOCK_SLACK_S) * 2 * 1.25),
        ("container_memory_working_set_bytes", 2 << 30),
        ("container_memory_rss", 2 << 30),
    ],
)
def test_what_cadvisor_shows_is_limited_as_the_summary_is(name: str, limit: float) -> None:
    accept(with_cadvisor({"container": "c", "samples": [[name, {}, limit]]}))
    with pytest.raises(AgentProtocolError, match=name):
        accept(with_cadvisor({"container": "c", "samples": [[name, {}, limit * 1.01]]}))


def test_a_container_has_each_known_sample_once() -> None:
    said = [
        ["container_memory_cache", {}, 1],
        ["container_memory_cache", {}, 2],
        ["container_memory_cache", {"evil": "x"}, 3],
        ["container_evil", {}, 1],
        ["container_fs_reads_bytes_total", {"device": "a"}, 1],
        ["container_fs_reads_bytes_total", {"device": "b"}, 1],
    ]
    (found,) = accept(with_cadvisor({"container": "c", "id": "/x", "samples": said}))["cadvisor"]
    kept = [
        ("container_memory_cache", {}, 1),
        *(("container_fs_reads_bytes_total", {"device": each}, 1) for each in "ab"),
    ]
    assert found == {"container": "c", "id": "/x", "samples": kept}


def largest_sample() -> bytes:
    """What makes the most of /metrics/cadvisor out of one message."""
    number = iter(range(10**9))
    lie = {
        "id": '"' * 4096,
        "image": '"' * 4096,
        "name": '"' * 256,
        "samples": [["container_threads", {"device": f"{next(number)}"}, 0] for _ in range(512)],
    }
    probe = {"container": "c", "probeType": "Liveness", "result": '"' * 256, "count": 1}
    message = {**STATS, "cadvisor": [{"container": name, **lie} for name in ("c", "init", "", "other", "c")]}
    room = (MAX_UP_BYTES - len(orjson.dumps(message)) - 100) // len(orjson.dumps([probe]))
    return orjson.dumps({**message, "probes": [probe] * min(8192, room)})


def test_the_largest_sample_makes_no_more_text_than_its_containers_may_have() -> None:
    sample: Any = decode_up(largest_sample())
    accepted = accept(sample)
    texts = list(render_cadvisor_metrics([accepted]))
    assert sum(map(len, texts)) < 3 * MAX_LINES * LINE_BYTES
    assert max(map(len, texts)) < CHUNK * LINE_BYTES
    assert sum(map(len, render_probe_metrics([accepted]))) < 10_000


def test_figures_that_no_instance_reaches_are_left_out_of_the_nodes() -> None:
    lie = copy.deepcopy(STATS)
    lie["node"] = {
        "cpu": {"time": TIME, "usageCoreNanoSeconds": 10},
        "memory": {"time": TIME, "workingSetBytes": 5, "availableBytes": MAX_INTEGER, "pageFaults": MAX_INTEGER},
        "network": {"time": TIME, "name": "eth0", "rxBytes": MAX_INTEGER, "txBytes": 7, "rxErrors": MAX_INTEGER},
        "fs": {"time": TIME, "usedBytes": MAX_INTEGER, "capacityBytes": 1 << 40, "inodes": MAX_INTEGER},
        "rlimit": {"time": TIME, "maxpid": MAX_INTEGER, "curproc": 9},
    }
    lie["pod"]["memory"] = {"time": TIME, "pageFaults": MAX_INTEGER, "availableBytes": 1 << 60}
    accepted = accept(lie)
    assert accepted["node"] == {
        "cpu": {"time": TIME, "usageCoreNanoSeconds": 10},
        "memory": {"time": TIME, "workingSetBytes": 5},
        "network": {"time": TIME, "name": "eth0", "txBytes": 7},
        "fs": {"time": TIME, "capacityBytes": 1 << 40},
        "rlimit": {"time": TIME, "curproc": 9},
    }
    assert accepted["pod"]["memory"] == {"time": TIME, "availableBytes": 1 << 60}, "a limit may be more than all have"


def test_probes_and_volumes_are_those_of_the_pod_each_once() -> None:
    probe = {"container": "c", "probeType": "Liveness", "result": "failed", "count": 1}
    lie = {**copy.deepcopy(STATS), "probes": [probe, {**probe, "count": 2}, {**probe, "result": "x"}]}
    lie["probes"] += [{**probe, "probeType": "Lively"}, {**probe, "container": "other"}]
    lie["pod"]["volume"] = [{"name": "v", "usedBytes": 1}, {"name": "v", "usedBytes": 2}, {"name": "w", "usedBytes": 3}]
    pod = {**POD, "spec": {**POD["spec"], "volumes": [{"name": "v"}]}}
    accepted = accept_stats(lie, pod, INSTANCE, 2000, 1 << 30, 1100.0)
    assert accepted["probes"] == [probe]
    assert accepted["pod"]["volume"] == [{"name": "v", "usedBytes": 1}]
