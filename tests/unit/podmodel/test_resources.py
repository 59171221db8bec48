from fractions import Fraction

import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.podmodel.resources import (
    ContainerResources,
    container_resources,
    cpu_quota,
    cpu_shares,
    effective_resources,
    oom_score_adj,
    qos_class,
)


def sized(name="c", requests=None, limits=None, **more):
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


@pytest.mark.parametrize(("milli", "shares"), [(0, 2), (1, 2), (2, 2), (100, 102), (1000, 1024), (10**9, 262144)])
def test_cpu_shares_are_clamped_to_what_the_kernel_takes(milli, shares):
    assert cpu_shares(milli) == shares


@pytest.mark.parametrize(("milli", "quota"), [(0, 0), (1, 1000), (10, 1000), (100, 10000), (2000, 200000)])
def test_cpu_quota_has_a_minimum_and_no_limit_is_zero(milli, quota):
    assert cpu_quota(milli) == quota


def test_a_containers_cgroup_values():
    container = sized(requests={"cpu": "250m"}, limits={"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"})
    assert container_resources(make_pod(container), container) == ContainerResources(
        256, 50000, 100000, 64 << 20, (("2MB", 4 << 20),)
    )


def test_a_missing_request_defaults_to_the_limit_and_a_missing_limit_to_the_pods():
    only_limit = sized(limits={"cpu": "500m"})
    assert container_resources(make_pod(only_limit), only_limit).cpu_shares == 512
    nothing = sized()
    found = container_resources(make_pod(nothing, resources={"limits": {"cpu": "1", "memory": "1Gi"}}), nothing)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit_bytes) == (1024, 100000, 1 << 30)
    assert container_resources(make_pod(nothing), nothing) == ContainerResources(2, 0, 100000, 0)


FULL = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("containers", "spec", "qos"),
    [
        ([sized()], {}, "BestEffort"),
        ([sized(requests=FULL, limits=FULL)], {}, "Guaranteed"),
        ([sized(requests={"cpu": "1000m", "memory": "1024Mi"}, limits=FULL)], {}, "Guaranteed"),
        ([sized(requests={"cpu": "1"})], {}, "Burstable"),
        ([sized(requests={"cpu": "1"}, limits={"cpu": "1"})], {}, "Burstable"),
        ([sized(requests=FULL, limits=FULL), sized("d")], {}, "Burstable"),
        ([sized(requests=FULL, limits=FULL)], {"initContainers": [sized("i")]}, "Burstable"),
        ([sized(requests={"ephemeral-storage": "1Gi"})], {}, "BestEffort"),
        ([sized()], {"resources": {"requests": FULL, "limits": FULL}}, "Guaranteed"),
        ([sized(requests={"cpu": "0"}, limits={"cpu": "0"})], {}, "BestEffort"),
    ],
)
def test_qos_class(containers, spec, qos):
    assert qos_class(make_pod(*containers, **spec)) == qos


CRITICAL = {"priority": 2000001000, "priorityClassName": "system-node-critical"}


def pod_level(memory):
    return {"resources": {"requests": {"memory": memory}}}


@pytest.mark.parametrize(
    ("container", "spec", "score"),
    [
        (sized(), {}, 1000),
        (sized(requests=FULL, limits=FULL), {}, -997),
        (sized(requests={"memory": "1Gi"}), CRITICAL, -997),
        (sized(requests={"memory": "1Gi"}), {**CRITICAL, "priorityClassName": "system-cluster-critical"}, 750),
        (sized(requests={"memory": "1Gi"}), {**CRITICAL, "priority": 1000}, 750),
        (sized(requests={"memory": "1Gi"}), {}, 750),
        (sized(requests={"memory": "4Gi"}), {}, 3),
        (sized(requests={"cpu": "1"}), {}, 999),
        (sized(requests={"memory": "1"}), {}, 999),
        (sized(requests={"memory": "1Gi"}), {"resources": {"requests": {"memory": "2Gi"}}}, 500),
        (sized(), {**pod_level("2Gi"), "initContainers": [sized("i")]}, 750),
        (sized(), {**pod_level("2Gi"), "initContainers": [sized("i", requests={"memory": "3Gi"})]}, 999),
    ],
)
def test_oom_score_grows_as_the_request_shrinks(container, spec, score):
    assert oom_score_adj(make_pod(container, **spec), container, 4 << 30) == score


def test_a_sidecar_is_not_killed_before_the_containers_it_serves():
    sidecar = sized("s", requests={"memory": "1Mi"}, restartPolicy="Always")
    pod = make_pod(sized(requests={"memory": "2Gi"}), initContainers=[sidecar])
    assert oom_score_adj(pod, sidecar, 4 << 30) == 500


def test_effective_requests_take_the_highest_point_of_a_pods_life():
    init = sized("i", requests={"cpu": "3", "memory": "1Gi"})
    sidecar = sized("s", requests={"cpu": "500m"}, restartPolicy="Always")
    late = sized("l", requests={"cpu": "3"})
    pod = make_pod(sized(requests={"cpu": "1", "memory": "2Gi"}), initContainers=[init, sidecar, late])
    assert effective_resources(pod, "requests") == {"cpu": Fraction(7, 2), "memory": Fraction(2 << 30)}


def test_overhead_does_not_make_a_limit_of_nothing_one():
    pod = make_pod(sized(limits={"cpu": "0", "memory": "1Gi"}), overhead={"cpu": "250m", "memory": "1Gi"})
    assert effective_resources(pod, "limits") == {"cpu": 0, "memory": Fraction(2 << 30)}


def test_overhead_is_added_and_pod_level_requests_replace_the_sum():
    pod = make_pod(
        sized(requests={"cpu": "1", "memory": "1Gi"}),
        resources={"requests": {"cpu": "2"}},
        overhead={"cpu": "250m"},
    )
    assert effective_resources(pod, "requests") == {"cpu": Fraction(9, 4), "memory": Fraction(1 << 30)}
    assert effective_resources(pod, "requests", overhead=False)["cpu"] == 2
