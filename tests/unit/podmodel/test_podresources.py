"""The pod's cgroup, and its resources as a whole in the status (convertToAPIPodLevelResourcesStatus of a kubelet)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import (
    ResourceConfig,
    bounded_resources,
    build_pod_level_resources,
    build_resource_config,
    cpu_weight,
    inherit_limits,
    quota_to_milli,
    shares_to_milli,
    weight_to_shares,
)

MI = 1 << 20


def sized(name: str, requests: Json | None = None, limits: Json | None = None, **fields: Any) -> Json:
    amounts = {"requests": requests, "limits": limits}
    return {"name": name, "resources": {kind: value for kind, value in amounts.items() if value}, **fields}


BOUND = make_pod(sized("c", {"cpu": "10m", "memory": "24Mi"}, {"cpu": "100m", "memory": "48Mi"}))
STARTED = {"phase": "Running"}


def test_a_pod_without_resources_of_its_own_has_the_sums_of_its_containers() -> None:
    assert build_pod_level_resources(BOUND, {}) == {
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"cpu": "100m", "memory": "48Mi"}},
        "allocatedResources": {"cpu": "10m", "memory": "24Mi"},
    }


def test_a_pod_that_asks_for_nothing_has_empty_resources() -> None:
    for previous in ({}, STARTED):
        found = build_pod_level_resources(make_pod(), previous, ResourceConfig(cpu_shares=2))
        assert found == {"resources": {}, "allocatedResources": {}}


def test_pod_level_resources_and_overhead_count() -> None:
    container = sized("c", {"memory": "1Gi"}, {"memory": "2Gi"})
    pod = make_pod(container, resources={"requests": {"cpu": "500m"}}, overhead={"cpu": "100m", "memory": "32Mi"})
    found = build_pod_level_resources(pod, {})
    assert found["allocatedResources"] == {"cpu": "600m", "memory": "1056Mi"}
    assert found["resources"] == {"requests": {"cpu": "600m", "memory": "1056Mi"}, "limits": {"memory": "2080Mi"}}


def test_a_sum_is_written_like_its_first_summand_that_is_not_zero() -> None:
    pod = make_pod(
        sized("zero", {"memory": "0"}), sized("first", {"memory": "64Mi"}), sized("other", {"memory": "100M"})
    )
    assert build_pod_level_resources(pod, {})["allocatedResources"] == {"memory": "167108864"}
    pod["spec"]["containers"].reverse()
    assert build_pod_level_resources(pod, {})["allocatedResources"] == {"memory": "167108864"}
    pod["spec"]["containers"] = [sized("first", {"memory": "1M"}), sized("other", {"memory": "1Mi"})]
    assert build_pod_level_resources(pod, {})["allocatedResources"] == {"memory": "2048576"}
    assert build_pod_level_resources(make_pod(sized("a", {"memory": "1M"}), sized("b", {"memory": "1M"})), {})[
        "allocatedResources"
    ] == {"memory": "2M"}


@pytest.mark.parametrize(
    ("config", "resources"),
    [
        (
            ResourceConfig(10, 10_000, 100_000, 48 * MI),
            {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"cpu": "100m", "memory": "48Mi"}},
        ),
        (  # a larger quota than asked for, and a limit that is no multiple of a Ki
            ResourceConfig(1024, 150_000, 100_000, 50_000_001),
            {"requests": {"cpu": "1", "memory": "24Mi"}, "limits": {"cpu": "1500m", "memory": "50000001"}},
        ),
        (  # the least shares and the least quota stand for all smaller ones
            ResourceConfig(2, 1_000, 100_000, 48 * MI),
            {"requests": {"memory": "24Mi"}, "limits": {"memory": "48Mi"}},
        ),
    ],
)
def test_a_running_pod_has_what_its_cgroup_says(config: ResourceConfig, resources: Json) -> None:
    assert build_pod_level_resources(BOUND, STARTED, config)["resources"] == resources


def test_what_a_cgroup_v2_weight_makes_of_an_allocated_request_is_not_shown() -> None:
    pod = make_pod(sized("c"), resources={"requests": {"cpu": "100m"}, "limits": {"cpu": "5m"}})
    shares = weight_to_shares(cpu_weight(102))
    assert shares != 102
    kept = build_pod_level_resources(pod, STARTED, ResourceConfig(shares, 1_000))["resources"]
    assert kept == {"requests": {"cpu": "100m"}, "limits": {"cpu": "5m"}}
    found = build_pod_level_resources(pod, STARTED, ResourceConfig(2 * shares, 20_000))["resources"]
    assert found == {"requests": {"cpu": "157m"}, "limits": {"cpu": "200m"}}


def test_what_the_cgroup_does_not_say_stays_as_it_was() -> None:
    """The sum of the limits of some containers is no limit of the pod, but a kubelet keeps what it has said once."""
    partly = make_pod(sized("a", {"cpu": "1"}, {"cpu": "1", "memory": "1Gi"}), sized("b"))
    first = build_pod_level_resources(partly, {"phase": "Pending"})
    assert first["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    previous = {"phase": "Running", **first}
    for config in (ResourceConfig(cpu_shares=1024), None):
        assert build_pod_level_resources(partly, previous, config) == first
    assert "limits" not in build_pod_level_resources(partly, STARTED, ResourceConfig(cpu_shares=1024))["resources"]


@pytest.mark.parametrize("config", [ResourceConfig(cpu_shares=1024), None])
def test_the_end_of_a_pod_that_ran_tells_only_limits_of_the_pod_itself(config: ResourceConfig | None) -> None:
    partly = make_pod(sized("a", {"cpu": "1"}, {"cpu": "1", "memory": "1Gi"}), sized("b", {}, {"cpu": "1"}))
    first = build_pod_level_resources(partly, {"phase": "Pending"})["resources"]
    ended = build_pod_level_resources(partly, {"phase": "Running", "resources": first}, config, ended=True)
    assert ended["resources"] == {"requests": first["requests"], "limits": {"cpu": "2"}}
    never_ran = build_pod_level_resources(partly, {"phase": "Pending", "resources": first}, config, ended=True)
    assert never_ran["resources"] == first


def test_an_ended_pod_keeps_what_it_had() -> None:
    had = {"limits": {"cpu": "3"}}
    for phase in ("Succeeded", "Failed"):
        assert build_pod_level_resources(BOUND, {"phase": phase, "resources": had})["resources"] == had


def test_the_cgroup_is_bounded_where_the_whole_pod_is() -> None:
    assert build_resource_config(BOUND) == ResourceConfig(10, 10_000, 100_000, 48 * MI)
    partly = make_pod(sized("a", {"cpu": "1"}, {"cpu": "1", "memory": "1Gi"}), sized("b", {}, {"memory": "0"}))
    assert build_resource_config(partly) == ResourceConfig(1024, None, 100_000, None)
    overhead = make_pod(
        sized("c"), resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}, overhead={"cpu": "500m"}
    )
    assert build_resource_config(overhead) == ResourceConfig(1536, 150_000, 100_000, None)
    assert build_resource_config(make_pod(overhead={"cpu": "1"})) == ResourceConfig(2)


def test_a_pod_is_bounded_when_every_container_has_a_limit_that_is_one() -> None:
    both = sized("a", {}, {"cpu": "1", "memory": "1Gi"})
    assert bounded_resources(make_pod(both, sized("b", {}, {"cpu": "1", "memory": "1Gi"}))) == {"cpu", "memory"}
    assert bounded_resources(make_pod(both, sized("b", {}, {"cpu": "0"}))) == frozenset()
    assert bounded_resources(make_pod(sized("b"), resources={"limits": {"cpu": "1", "memory": "0"}})) == {"cpu"}


def test_a_container_inherits_pod_level_limits_that_it_has_not() -> None:
    own = sized("c", {"cpu": "1"}, {"memory": "1Gi"})
    pod = make_pod(own, resources={"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "2"}})
    assert inherit_limits(pod, own) == {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "cpu": "2"}}
    assert inherit_limits(make_pod(own), own) == own["resources"]
    assert inherit_limits(make_pod(), {"name": "c"}) == {}


def test_cgroup_values_become_thousandths_of_a_cpu_as_in_a_kubelet() -> None:
    assert [shares_to_milli(shares) for shares in (0, 1, 2, 10, 102, 1024, 262144)] == [0, 0, 2, 10, 100, 1000, 256000]
    assert [quota_to_milli(quota, 100_000) for quota in (-1, 0, 1_000, 10_000, 150_000)] == [0, 0, 10, 100, 1500]
    assert quota_to_milli(5_000, 0) == 0
    assert [cpu_weight(shares) for shares in (0, 2, 1024, 262144)] == [1, 1, 39, 10000]
    assert [weight_to_shares(weight) for weight in (1, 39, 10000)] == [2, 998, 262144]
