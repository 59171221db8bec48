from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vk_provider.cloud.aws.volumetypes import GP3
from vk_provider.cloud.base import MachineTraits, Offering
from vk_provider.cloud.volumes import RootVolumes, VolumeSpeed
from vk_provider.sizing.memory import LearnedMemory
from vk_provider.sizing.need import compute_allocatable, compute_need
from vk_provider.sizing.preferences import NO_PREFERENCES, Preferences, build_preferences
from vk_provider.sizing.requirement import NOTHING_GIVEN, Given, names_architecture
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection, explain_choice, select_offering

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


def test_empty_dirs_have_room_for_their_limits_where_nothing_else_limits_them() -> None:
    volumes = [
        {"name": "a", "emptyDir": {"sizeLimit": "30Gi"}},
        {"name": "b", "emptyDir": {"sizeLimit": "10Gi", "medium": ""}},
        {"name": "m", "emptyDir": {"sizeLimit": "64Gi", "medium": "Memory"}},
        {"name": "c", "emptyDir": {}},
        {"name": "d", "configMap": {"name": "x"}},
    ]
    subject = limited({"ephemeral-storage": "1Gi"}, {}, volumes=volumes)
    assert compute_need(subject, Preferences(), limits=True).disk_bytes == 60 * GIB
    assert compute_need(subject, Preferences()).disk_bytes == 21 * GIB, "a request is what a pod is promised"
    bounded = limited({}, {"ephemeral-storage": "5Gi"}, volumes=volumes)
    assert compute_need(bounded, Preferences(), limits=True).disk_bytes == 25 * GIB, "it is evicted beyond its limit"


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


BURST = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
T4 = MachineTraits(gpu_name="T4", gpu_memory_bytes=16 * GIB, local_disk_bytes=125 * 10**9)
A10G = MachineTraits(gpu_name="A10G", gpu_memory_bytes=22 * GIB, local_disk_bytes=250 * 10**9)


def typed(name: str, cpu: int, gib: float, price: float, traits: MachineTraits, **more: Any) -> Offering:
    return Offering(name, "a", "on-demand", "amd64", cpu, int(gib * GIB), price, traits=traits, **more)


CLOUD = [
    typed("t3.small", 2000, 2, 0.02, BURST),
    typed("c7i.large", 2000, 4, 0.06, MachineTraits(volume_bytes_per_s=80 * 10**6)),
    typed("g4dn.xlarge", 4000, 16, 0.5, T4, gpus=1),
    typed("g5.xlarge", 4000, 16, 1.0, A10G, gpus=1),
    typed("g5.12xlarge", 48000, 192, 6.0, A10G, gpus=4),
    typed("m5.metal", 96000, 384, 4.0, MachineTraits(is_metal=True, volume_bytes_per_s=2 * 10**9)),
]


def pick(subject: dict[str, Any], preferences: Preferences = NO_PREFERENCES, given: Given = NOTHING_GIVEN) -> str:
    result = select_offering(subject, CLOUD, NOTHING, preferences, given)
    return result.offering.instance_type if isinstance(result, Selection) else f"{result.reason}: {result.message}"


def annotated(requests: dict[str, str] | None = None, **annotations: str) -> dict[str, Any]:
    named = {f"vk-provider/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return pod(requests or {"cpu": "100m"}, annotations=named)


def test_a_burstable_type_costs_what_the_pods_cpu_makes_it_cost() -> None:
    idle = select_offering(pod({"cpu": "250m"}), CLOUD)
    assert isinstance(idle, Selection) and idle.offering.instance_type == "t3.small"
    assert "at $0.0200 per hour: the cheapest of 5 offerings" in idle.message
    busy = select_offering(pod({"cpu": "1"}), CLOUD)
    assert isinstance(busy, Selection) and busy.offering.instance_type == "t3.small"
    assert "at $0.0500 per hour (of which $0.0300 for CPU above its baseline)" in busy.message
    assert busy.message.endswith("; the next, c7i.large on-demand in a, costs $0.0600")
    assert pick(pod({"cpu": "2"})) == "c7i.large", "0.02 and 1.6 CPUs at 0.05 are more than 0.06"
    burst = explain_choice(busy, ("c7i.large", "a", "on-demand"))
    assert burst.startswith("Selected c7i.large (2 CPU, 4Gi) on-demand in a at $0.0600 per hour: the cloud had no")


def test_a_limit_above_the_request_is_room_and_not_expected_use() -> None:
    assert pick(limited({"cpu": "250m"}, {"cpu": "2"})) == "t3.small"


def test_gpus_are_chosen_by_number_name_and_memory() -> None:
    one, four = {"nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "2"}
    assert pick(annotated(one)) == "g4dn.xlarge"
    assert pick(annotated(four)) == "g5.12xlarge"
    assert pick(annotated(one, gpu_name="a10g")) == "g5.xlarge"
    assert pick(annotated(one, gpu_name="L4, A10*")) == "g5.xlarge"
    assert pick(annotated(one, gpu_memory="20Gi")) == "g5.xlarge"
    assert "the pod wants GPUs of 80Gi, the largest has 22Gi" in pick(annotated(one, gpu_memory="80Gi"))
    found = select_offering(annotated(one), CLOUD)
    assert isinstance(found, Selection) and "Selected g4dn.xlarge (4 CPU, 16Gi, 1 T4) on-demand" in found.message


def test_types_families_disks_and_bare_metal() -> None:
    assert pick(annotated(instance_type="c7?.*")) == "c7i.large"
    assert pick(annotated(instance_family="g5, g6")) == "g5.xlarge"
    assert pick(annotated(local_disk="200G")) == "g5.xlarge"
    assert "the pod wants local disks of" in pick(annotated(local_disk="9Ti"))
    assert "only bare metal is left" not in pick(annotated({"cpu": "96"}, instance_family="m5"))
    assert pick(annotated({"cpu": "96"}, instance_family="m5")) == "m5.metal"
    assert "cpu" in pick(annotated({"cpu": "96"}))


def test_a_pod_may_set_the_options_that_are_allowed_and_the_cloud_knows() -> None:
    knows = Preferences(launch_options=frozenset({"subnet", "root-volume-throughput"}))
    asks = annotated(subnet="subnet-1")
    assert pick(asks, knows) == (
        "InvalidRequirement: annotation vk-provider/subnet is not allowed on pods here (pods.launch_options); "
        "a RuntimeClass may have it"
    )
    allowed = Preferences(launch_options=knows.launch_options, pod_options=frozenset({"subnet", "image"}))
    found = select_offering(asks, CLOUD, NOTHING, allowed)
    assert isinstance(found, Selection) and found.options == {"subnet": "subnet-1"}
    plain = select_offering(pod({"cpu": "100m"}), CLOUD, NOTHING, allowed)
    assert isinstance(plain, Selection) and plain.options == {} and plain.asked != found.asked
    assert pick(annotated(image="ami-1"), allowed) == "InvalidRequirement: This cloud has no launch option image"


def test_a_runtime_class_may_set_any_option_and_its_own_counts() -> None:
    knows = Preferences(launch_options=frozenset({"subnet"}), pod_options=frozenset({"subnet"}))
    given = Given(annotations=(("vk-provider/instance-family", "g5"), ("vk-provider/subnet", "subnet-9")))
    found = select_offering(annotated(subnet="subnet-1"), CLOUD, NOTHING, knows, given)
    assert isinstance(found, Selection)
    assert (found.options, found.offering.instance_type) == ({"subnet": "subnet-9"}, "g5.xlarge")
    both = annotated(instance_type="c7i.*")
    assert "instance family" in pick(both, knows, given), "what the pod and its class ask for must both hold"


def test_the_zone_of_a_subnet_and_the_rate_of_a_volume_count() -> None:
    zones = [
        typed("x.large", 2000, 4, 0.01, MachineTraits(), subnets=("subnet-1",)),
        Offering("x.large", "b", "on-demand", "amd64", 2000, 4 * GIB, 0.02, subnets=("subnet-2",)),
    ]
    preferences = Preferences(launch_options=frozenset({"subnet"}), pod_options=frozenset({"subnet"}))
    for subnet, zone in (("subnet-1", "a"), ("subnet-2", "b"), ("subnet-of-nobody", "a")):
        found = select_offering(annotated(subnet=subnet), zones, NOTHING, preferences)
        assert isinstance(found, Selection) and found.offering.zone == zone
    name = "root-volume-throughput"
    fast = Preferences(launch_options=frozenset({name}), pod_options=frozenset({name}))
    assert pick(annotated(root_volume_throughput="75"), fast) == "c7i.large"
    assert "the pod wants 500 MiB/s of its root volume, the best carries 76" in pick(
        annotated(root_volume_throughput="500"), fast
    )


def test_a_root_volume_that_the_cloud_never_makes_is_refused_with_what_it_needs() -> None:
    names = frozenset({"root-volume-throughput", "root-volume-iops"})
    volumes = RootVolumes(GP3, VolumeSpeed(3000, 125))
    preferences = Preferences(launch_options=names, pod_options=names, root_volumes=volumes)
    refused = pick(annotated(root_volume_throughput="800"), preferences)
    assert refused.startswith("InvalidRequirement: ") and "800 MiB/s need 3200 IOPS, and it has 3000" in refused
    assert "3000 to 80000 IOPS, not 100" in pick(annotated(root_volume_iops="100"), preferences)
    assert pick(annotated(root_volume_throughput="75"), replace(preferences, root_volumes=None)) == "c7i.large"
    assert pick(annotated(root_volume_iops="16000"), preferences) == pick(annotated(), preferences)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu-memory", "1e999999999"),
        ("local-disk", "-5Gi"),
        ("root-volume-size", "big"),
        ("root-volume-iops", "3000; rm"),
        ("subnet", "subnet 1"),
        ("image", "a\nb"),
        ("instance-profile", "x" * 513),
        ("instance-type", ",".join(["m7i.large"] * 101)),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_refused_with_its_name(name: str, value: str) -> None:
    every = frozenset({"root-volume-iops", "subnet", "image", "instance-profile"})
    preferences = Preferences(launch_options=every, pod_options=every)
    subject = pod(annotations={f"vk-provider/{name}": value})
    text = pick(subject, preferences)
    assert text.startswith(f"InvalidRequirement: annotation vk-provider/{name} ") and len(text) < 300
    assert names_architecture(subject)


def test_the_root_volume_is_as_large_as_asked_for_and_has_room_for_the_pod() -> None:
    for size, expected in (("100Gi", 100), ("1Gi", 25)):
        subject = annotated({"ephemeral-storage": "5Gi"}, root_volume_size=size)
        found = select_offering(subject, CLOUD)
        assert isinstance(found, Selection) and found.disk_bytes == expected * GIB


def test_images_decide_the_architecture_where_the_pod_does_not() -> None:
    preferences = Preferences(default_architecture="amd64")

    def choose_for(given: Given, **spec: Any) -> str:
        result = select_offering(pod({"cpu": "2"}, **spec), OFFERINGS, NOTHING, preferences, given)
        assert isinstance(result, Selection)
        return result.offering.architecture

    assert choose_for(Given()) == "amd64"
    assert choose_for(Given(architectures=("amd64", "arm64"))) == "arm64", "the cheaper one"
    assert choose_for(Given(architectures=("amd64",))) == "amd64"
    named = {"nodeSelector": {"kubernetes.io/arch": "amd64"}}
    assert choose_for(Given(architectures=("arm64",)), **named) == "amd64"


def test_spot_requests_name_five_types_where_so_many_fit() -> None:
    spot = [
        Offering(f"m{n}.large", zone, "spot", "amd64", 2000, 8 * GIB, 0.01 * n) for n in range(1, 8) for zone in "abcd"
    ]
    found = select_offering(annotated(capacity_type="spot"), spot)
    assert isinstance(found, Selection)
    named = (found.offering, *found.alternatives)
    assert len({offering.instance_type for offering in named}) == 5
    assert [o.price_per_hour for o in named] == sorted(o.price_per_hour for o in named)
    few = select_offering(annotated(capacity_type="spot"), spot[:4])
    assert isinstance(few, Selection) and len(few.alternatives) == 3


def test_spot_falls_back_to_on_demand_when_both_are_asked_for() -> None:
    asks = pod(annotations={"vk-provider/capacity-type": "spot, on-demand"})
    assert choose(asks).capacity_type == "spot"
    assert choose(asks, frozenset({("small", "a", "spot")})).capacity_type == "on-demand"


def test_current_generations_come_first() -> None:
    old = typed("m1.large", 2000, 8, 0.01, MachineTraits(is_current=False))
    new = typed("m7i.large", 2000, 8, 0.02, MachineTraits())
    found = select_offering(pod(), [old, new])
    assert isinstance(found, Selection) and found.offering is new and found.alternatives == (old,)
    only = select_offering(annotated(instance_family="m1"), [old, new])
    assert isinstance(only, Selection) and only.offering is old


def test_memory_is_what_the_operating_system_has_and_agents_say_more_exactly() -> None:
    nominal = typed("m7i.large", 2000, 8, 0.1, MachineTraits(os_memory_bytes=int(7.4 * GIB)))
    asks = pod({"memory": "7300Mi"})
    assert isinstance(select_offering(asks, [nominal]), Selection)
    assert isinstance(select_offering(pod({"memory": "7600Mi"}), [nominal]), Refusal)
    learned = LearnedMemory()
    assert learned.observe(nominal, int(7.6 * GIB)) and not learned.observe(nominal, int(7.6 * GIB))
    assert isinstance(select_offering(pod({"memory": "7600Mi"}), [learned.apply(nominal)]), Selection)
    assert compute_allocatable(learned.apply(nominal), Preferences())["memory"] == f"{(7780 - 160) * 1024}Ki"


def test_an_agent_that_lies_changes_little_and_never_makes_a_type_larger() -> None:
    nominal = typed("m7i.large", 2000, 8, 0.1, MachineTraits(os_memory_bytes=int(7.4 * GIB)))
    learned = LearnedMemory()
    for lie in (0, 1, 2**62, 8 * GIB + 1, 4 * GIB):
        assert not learned.observe(nominal, lie)
    assert learned.apply(nominal) is nominal
    learned.observe(nominal, int(7.5 * GIB))
    assert not learned.observe(nominal, 8 * GIB), "the least of the last ones counts"
    for _ in range(8):
        learned.observe(nominal, int(7.7 * GIB))
    assert learned.find("m7i.large") == int(7.7 * GIB) // 2**22 * 2**22, "an old report is forgotten"


def test_an_instance_that_is_there_fits_a_pod_by_the_same_filters() -> None:
    selector = OfferingSelector(CLOUD)
    small, large, gpu = selector.offerings[0], CLOUD[1], CLOUD[2]
    assert small.instance_type == "t3.small"
    assert selector.fits(pod({"cpu": "1"}), large, 20 * GIB) and selector.fits(pod({"cpu": "1"}), small, 20 * GIB)
    assert not selector.fits(pod({"cpu": "1", "memory": "3Gi"}), small, 20 * GIB)
    assert not selector.fits(pod({"cpu": "1"}), gpu, 20 * GIB), "a GPU is not wasted"
    assert not selector.fits(pod({"cpu": "1", "ephemeral-storage": "1Gi"}), large, 20 * GIB)
    assert not selector.fits(annotated(instance_family="t3"), large, 20 * GIB)
    assert not selector.fits(annotated(gpu_memory="lots"), large, 20 * GIB)
    assert not selector.fits(pod({"cpu": "1"}), offer("gone", 2000, 4, 0.1), 20 * GIB)
    options = Preferences(launch_options=frozenset({"subnet"}), pod_options=frozenset({"subnet"}))
    assert not selector.fits(annotated(subnet="subnet-1"), large, 20 * GIB, options)


def test_what_a_pod_asks_of_labels_is_bounded_and_its_node_affinity_has_no_patterns() -> None:
    """A pod with 50,000 values held the provider's event loop for an hour."""
    kind = "node.kubernetes.io/instance-type"
    many = [f"type-{number}" for number in range(1_900)]
    assert choose(pod(affinity=affinity([expression(kind, "In", *many, "big")]))).instance_type == "big"
    twice = affinity([expression(kind, "In", *many)], [expression(kind, "In", *many)])
    for subject in (pod(affinity=twice), pod(affinity=affinity([expression(kind, "In", *many * 30)]))):
        found = refusal(subject)
        assert found.removed_by == "annotations" and "more than 2000 values" in found.message
    pattern = refusal(pod(affinity=affinity([expression(kind, "In", "b*")])))
    assert pattern.removed_by == "node affinity", "the API's values are no patterns"


def test_a_pattern_of_an_annotation_is_bounded() -> None:
    for value in ("b" * 65, "*b" * 9):
        found = refusal(annotated(instance_type=f"small, {value}"))
        assert found.removed_by == "annotations" and "has an alternative of more than 64 characters or" in found.message
    assert choose(annotated(instance_type="*i*")).instance_type in ("big", "medium")
