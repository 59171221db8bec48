from __future__ import annotations

from typing import Any

from vk_provider.cloud.base import Offering
from vk_provider.sizing.need import compute_allocatable, compute_need
from vk_provider.sizing.preferences import Preferences, build_preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection, select_offering

GIB = 2**30
MIB = 2**20


def offer(name: str, cpu: int, gib: float, price: float, **more: Any) -> Offering:
    values: dict[str, Any] = {"zone": "a", "capacity_type": "on-demand", "architecture": "amd64", **more}
    return Offering(
        name,
        values["zone"],
        values["capacity_type"],
        values["architecture"],
        cpu,
        int(gib * GIB),
        price,
        values.get("gpus", 0),
    )


OFFERINGS = [
    offer("big", 4000, 16, 0.16),
    offer("small", 1000, 2, 0.02),
    offer("small", 1000, 2, 0.01, capacity_type="spot"),
    offer("small", 1000, 2, 0.021, zone="b"),
    offer("medium", 2000, 4, 0.04),
    offer("arm", 2000, 4, 0.03, architecture="arm64"),
]


def pod(requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    containers = [{"name": "c", "resources": {"requests": requests or {}}}]
    return {"metadata": {"annotations": annotations}, "spec": {"containers": containers, **spec}}


def choose(subject: dict[str, Any], *args: Any) -> Offering:
    result = select_offering(subject, OFFERINGS, *args)
    assert isinstance(result, Selection), result
    return result.offering


def refusal(subject: dict[str, Any], *args: Any) -> Refusal:
    result = select_offering(subject, OFFERINGS, *args)
    assert isinstance(result, Refusal), result
    return result


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def test_the_cheapest_on_demand_offering_that_fits_is_chosen_and_explained() -> None:
    result = select_offering(pod({"cpu": "500m", "memory": "1Gi"}), OFFERINGS)
    assert isinstance(result, Selection)
    assert (result.offering.instance_type, result.offering.zone) == ("small", "a")
    assert result.message == (
        "Selected small (1 CPU, 2Gi) on-demand in a at $0.0200 per hour: the cheapest of 5 offerings "
        "with room for 500m CPU and 1Gi (and 160Mi for the instance itself); "
        "the next, small on-demand in b, costs $0.0210"
    )
    assert [o.instance_type for o in result.alternatives] == ["small", "arm", "medium", "big"]


def test_the_instances_own_memory_counts() -> None:
    assert choose(pod({"memory": "1888Mi"})).instance_type == "small"
    assert choose(pod({"memory": "1889Mi"})).instance_type == "arm"


def test_init_containers_sidecars_and_overhead_count_as_the_scheduler_counts_them() -> None:
    subject = pod({"cpu": "500m"})
    subject["spec"]["initContainers"] = [
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
        {"name": "i", "resources": {"requests": {"cpu": "1500m"}}},
    ]
    subject["spec"]["overhead"] = {"cpu": "100m"}
    assert compute_need(subject, Preferences()).cpu_milli == 1900


def test_a_pod_without_requests_gets_the_defaults() -> None:
    need = compute_need(pod(), Preferences())
    assert (need.cpu_milli, need.memory_bytes) == (1000, (256 + 160) * MIB)


def test_extended_resources_are_asked_of_no_instance_type_and_huge_pages_are() -> None:
    assert choose(pod({"cpu": "500m", "scheduling.k8s.io/foo": "3"})).instance_type == "small"
    refused = select_offering(pod({"hugepages-2Mi": "4Mi"}), OFFERINGS)
    assert isinstance(refused, Refusal) and refused.message == "No instance type has the resource hugepages-2Mi"


def test_ephemeral_storage_enlarges_the_disk() -> None:
    result = select_offering(pod({"ephemeral-storage": "5Gi"}), OFFERINGS)
    assert isinstance(result, Selection) and result.disk_bytes == 25 * GIB


def test_node_selector_chooses_architecture_type_zone_and_capacity_type() -> None:
    assert choose(pod(nodeSelector={"kubernetes.io/arch": "arm64"})).instance_type == "arm"
    assert choose(pod(nodeSelector={"node.kubernetes.io/instance-type": "big"})).instance_type == "big"
    assert choose(pod(nodeSelector={"topology.kubernetes.io/zone": "b"})).zone == "b"
    assert choose(pod(nodeSelector={"karpenter.sh/capacity-type": "spot"})).capacity_type == "spot"
    assert choose(pod(nodeSelector={"disktype": "ssd"})).instance_type == "small"


def test_annotations_choose_with_lists_and_patterns() -> None:
    assert choose(pod(annotations={"vk-provider/instance-type": "big, medium"})).instance_type == "medium"
    assert choose(pod(annotations={"vk-provider/instance-type": "b*"})).instance_type == "big"
    assert choose(pod(annotations={"vk-provider/capacity-type": "spot,on-demand"})).capacity_type == "spot"


def test_required_node_affinity_is_a_choice_of_terms() -> None:
    zone, kind = "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type"
    assert choose(pod(affinity=affinity([expression(zone, "NotIn", "a")]))).zone == "b"
    either = affinity([expression(kind, "In", "big")], [expression(kind, "In", "medium")])
    assert choose(pod(affinity=either)).instance_type == "medium"
    unrelated = affinity([expression("disktype", "In", "ssd")], [expression(kind, "In", "big")])
    assert choose(pod(affinity=unrelated)).instance_type == "small"


def test_a_refusal_names_the_filter_that_removed_the_last_candidate() -> None:
    found = refusal(pod({"memory": "64Gi"}))
    assert (found.reason, found.removed_by, found.retryable) == ("NoFittingInstance", "memory", False)
    assert found.message == (
        "No instance fits: the pod needs 64Gi of memory and the instance itself 160Mi, the largest has 16Gi "
        "(5 of 6 offerings were left before the filter on memory)"
    )
    assert refusal(pod({"cpu": "9"})).removed_by == "cpu"
    assert refusal(pod(nodeSelector={"topology.kubernetes.io/zone": "c"})).removed_by == "zone"
    assert refusal(pod({"nvidia.com/gpu": "1"})).removed_by == "nvidia.com/gpu"
    assert (
        "node affinity wants"
        in refusal(pod(affinity=affinity([expression("kubernetes.io/arch", "In", "s390x")]))).message
    )


def test_offerings_without_capacity_are_passed_over_and_all_gone_is_retryable() -> None:
    first = ("small", "a", "on-demand")
    assert choose(pod(), frozenset({first})).zone == "b"
    every = frozenset((o.instance_type, o.zone, o.capacity_type) for o in OFFERINGS)
    found = refusal(pod(), every)
    assert (found.reason, found.removed_by, found.retryable) == ("InsufficientInstanceCapacity", "availability", True)


def test_the_operators_limits_hold_and_a_pod_may_choose_its_capacity_type() -> None:
    only = Preferences(architectures=("arm64",), zones=("a",), instance_types=("a*",))
    assert choose(pod(), frozenset(), only).instance_type == "arm"
    assert (
        "this node allows s*"
        in refusal(
            pod({"cpu": "1"}, nodeSelector={"kubernetes.io/arch": "arm64"}),
            frozenset(),
            Preferences(instance_types=("s*",)),
        ).message
    )
    assert choose(pod(), frozenset(), Preferences(capacity_types=("spot",))).capacity_type == "spot"


def test_equal_questions_are_answered_alike_and_changed_ones_anew() -> None:
    selector = OfferingSelector(OFFERINGS)
    first = selector.select(pod(), frozenset())
    assert selector.select(pod(), frozenset()) is first
    other = selector.select(pod(), frozenset({("small", "a", "on-demand")}))
    assert isinstance(other, Selection) and other.offering.zone == "b"


def test_allocatable_is_the_instance_without_its_own_part() -> None:
    found = compute_allocatable(offer("x", 1500, 2, 1.0), Preferences())
    assert found == {"cpu": "1500m", "memory": f"{(2 * 1024 - 160) * 1024}Ki", "ephemeral-storage": f"{20 * 2**20}Ki"}


NOTHING: frozenset[Any] = frozenset()


def test_the_pods_of_a_node_are_launched_in_its_zone_on_its_architecture() -> None:
    assert choose(pod({"cpu": "1"}), NOTHING, build_preferences("b", "amd64", OFFERINGS)).zone == "b"
    assert choose(pod({"cpu": "1"}), NOTHING, build_preferences("", "arm64", OFFERINGS)).architecture == "arm64"
    asks = pod({"cpu": "1"}, annotations={"vk-provider/architecture": "arm64"})
    assert choose(asks, NOTHING, build_preferences("", "amd64", OFFERINGS)).architecture == "arm64"
    refused = refusal(pod(annotations={"vk-provider/zone": "a"}), NOTHING, build_preferences("b", "amd64", OFFERINGS))
    assert refused.removed_by == "zone"
    assert "topology.kubernetes.io/zone In a and this node allows b; there is a, b" in refused.message


def test_a_zone_that_only_the_cluster_knows_is_for_the_scheduler_but_annotations_still_choose() -> None:
    preferences = build_preferences("rack-7", "amd64", OFFERINGS)
    zone = "topology.kubernetes.io/zone"
    wants = affinity([expression(zone, "In", "rack-7")])
    assert choose(pod({"cpu": "1"}, nodeSelector={zone: "rack-7"}, affinity=wants), NOTHING, preferences).zone == "a"
    assert choose(pod({"cpu": "1"}, annotations={"vk-provider/zone": "b"}), NOTHING, preferences).zone == "b"


def limited(requests: dict[str, str], limits: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [{"resources": {"requests": requests, "limits": limits}}], **spec}}


def test_the_instance_and_its_disk_hold_the_limits() -> None:
    subject = limited({"cpu": "100m", "ephemeral-storage": "1Gi"}, {"cpu": "1500m", "ephemeral-storage": "30Gi"})
    result = select_offering(subject, OFFERINGS)
    assert isinstance(result, Selection)
    assert result.offering.cpu_milli == 2000 and "room for 1500m CPU" in result.message
    assert result.disk_bytes == 50 * GIB
    assert choose(subject, NOTHING, Preferences(size_to_limits=False)).instance_type == "small"


def test_limits_larger_than_any_instance_fall_back_to_the_requests() -> None:
    assert choose(limited({"cpu": "1"}, {"cpu": "64"})).instance_type == "small"
    assert choose(limited({"memory": "3Gi"}, {"memory": "64Gi"})).memory_bytes == 4 * GIB
    assert refusal(limited({"cpu": "32"}, {"cpu": "64"})).removed_by == "cpu"


def test_resources_of_the_whole_pod_count_instead_of_its_containers() -> None:
    whole = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "3", "memory": "1Gi"}}
    assert choose(limited({"cpu": "100m"}, {"cpu": "200m"}, resources=whole)).instance_type == "big"
    assert (
        choose(
            limited({"cpu": "100m"}, {"cpu": "200m"}, resources={"limits": {"cpu": "2"}}, overhead={"cpu": "100m"})
        ).instance_type
        == "big"
    )
