"""Resources in a container's status (convertContainerStatusResources of a kubelet)."""

from __future__ import annotations

import pytest

from tests.unit.agent.worker.builders import container, exited, running
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.worker.rules.observed import RuntimeResources
from vk_provider.agent.worker.status.resources import build_resources_status, parse_runtime_resources
from vk_provider.jsontypes import Json

CPU_LIMIT = container("main", resources={"limits": {"cpu": "100m"}, "requests": {"cpu": "100m"}})


def show(of: Json, reported: RuntimeResources | None, actuated: Json | None, old: Json | None = None) -> Json:
    return dict(build_resources_status(of, running(of, resources=reported), actuated, old)[0])


def test_a_container_that_does_not_run_has_the_allocated_ones() -> None:
    ended = exited(CPU_LIMIT, resources=RuntimeResources("1", "1", "1", "1"))
    assert build_resources_status(CPU_LIMIT, ended, None, None) == (CPU_LIMIT["resources"], {"cpu": "100m"})


def test_where_the_runtime_reports_nothing_a_missing_amount_is_zero() -> None:
    shown = show(CPU_LIMIT, None, CPU_LIMIT["resources"])
    assert shown == {"limits": {"cpu": "100m", "memory": "0"}, "requests": {"cpu": "100m", "memory": "0"}}
    memory = container("main", resources={"requests": {"memory": "1Mi"}})
    assert show(memory, None, memory["resources"]) == {"requests": {"memory": "1Mi"}}


def test_where_the_runtime_reports_them_a_missing_amount_is_unknown() -> None:
    reported = RuntimeResources("100m", "100m")
    assert show(CPU_LIMIT, reported, CPU_LIMIT["resources"]) == CPU_LIMIT["resources"]


def test_an_inherited_limit_is_shown_beside_a_limit_of_its_own() -> None:
    own = container("main", resources={"limits": {"memory": "48Mi"}, "requests": {"memory": "48Mi"}})
    reported = RuntimeResources("200m", "200m", None, "48Mi")
    assert show(own, reported, own["resources"]) == {
        "limits": {"memory": "48Mi", "cpu": "200m"},
        "requests": {"memory": "48Mi", "cpu": "200m"},
    }
    assert show(container("main"), reported, {}) == {}, "nothing is said of lists that the spec does not have"


def test_the_least_amounts_of_a_cgroup_stand_for_the_allocated_ones() -> None:
    tiny = container("main", resources={"limits": {"cpu": "5m"}, "requests": {"cpu": "1m"}})
    assert show(tiny, RuntimeResources("2m", "10m"), tiny["resources"]) == tiny["resources"]
    assert show(tiny, RuntimeResources("3m", "11m"), tiny["resources"]) == {
        "limits": {"cpu": "11m"},
        "requests": {"cpu": "3m"},
    }


def test_what_is_unknown_stays_as_it_was_in_the_same_running_container() -> None:
    record = running(CPU_LIMIT)
    before = {"limits": {"memory": "7Mi", "cpu": "9"}, "requests": {"memory": "3Mi"}}
    old = {"containerID": f"containerd://{record.id}", "state": {"running": {}}, "resources": before}
    reported = RuntimeResources("100m", "100m")
    assert show(CPU_LIMIT, reported, None, old) == {
        "limits": {"cpu": "100m", "memory": "7Mi"},
        "requests": {"cpu": "100m", "memory": "3Mi"},
    }
    for another in ({**old, "containerID": "containerd://x"}, {**old, "state": {"waiting": {}}}):
        assert show(CPU_LIMIT, reported, None, another) == CPU_LIMIT["resources"]


def test_a_resize_that_is_not_carried_out_yet_shows_what_the_container_has() -> None:
    wanted = container("main", resources={"limits": {"memory": "128Mi"}, "requests": {"memory": "64Mi"}})
    actuated = {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}
    resources, allocated = build_resources_status(wanted, running(wanted), actuated, None)
    assert (resources, allocated) == (actuated, {"memory": "64Mi"})
    reported = RuntimeResources("2m", None, None, "64Mi")
    assert show(wanted, reported, actuated) == actuated


@pytest.mark.parametrize(
    ("linux", "expected"),
    [
        (None, None),
        ({}, None),
        ({"cpu_period": 100_000, "cpu_quota": -1, "cpu_shares": 2}, RuntimeResources("2m")),
        (
            {"cpu_period": 100_000, "cpu_quota": 20_000, "cpu_shares": 204, "memory_limit_in_bytes": 100_000_000},
            RuntimeResources("200m", "200m", None, "100000000"),
        ),
        ({"memory_limit_in_bytes": 64 << 20}, RuntimeResources(memory_limit="64Mi")),
    ],
)
def test_the_runtimes_report_is_read_as_a_kubelet_reads_it(linux: Json | None, expected: RuntimeResources) -> None:
    status = pb.ContainerStatus()
    if linux is not None:
        status.resources.linux.CopyFrom(pb.LinuxContainerResources(**linux))
    assert parse_runtime_resources(status) == expected
