"""What a pod must pass before it costs money."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vk_provider.cloud.base import InstanceRuntime
from vk_provider.jsontypes import Json
from vk_provider.podmodel.hostport import HeldPorts, HostPort
from vk_provider.pods.admission import NodeUsage, admit, features_of, hold_by_policy, parse_daemonsets

NODE = {
    "metadata": {"labels": {"kubernetes.io/arch": "amd64"}},
    "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "3"}},
}


def make_pod(uid: str = "u1", cpu: str = "1", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": uid, **metadata},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    }


def test_pods_are_admitted_until_the_node_is_full() -> None:
    usage = NodeUsage()
    assert admit(make_pod("u1", "3"), NODE, usage) is None
    verdict = admit(make_pod("u2", "1500m"), NODE, usage)
    assert verdict is not None and verdict.refuse
    assert verdict.reason == "OutOfcpu"
    assert verdict.message == "Node didn't have enough resource: cpu, requested: 1500, used: 3000, capacity: 4000"


def test_a_pod_that_ended_makes_room() -> None:
    usage = NodeUsage()
    assert admit(make_pod("u1", "3"), NODE, usage) is None
    usage.remove("u1")
    assert admit(make_pod("u2", "3"), NODE, usage) is None


def test_the_number_of_pods_is_limited() -> None:
    usage = NodeUsage()
    for index in range(3):
        assert admit(make_pod(f"u{index}", "100m"), NODE, usage) is None
    verdict = admit(make_pod("u9", "100m"), NODE, usage)
    assert verdict is not None and verdict.reason == "OutOfpods"


DONGLE = "example.com/dongle"


def with_requests(uid: str, **requests: str) -> dict[str, Any]:
    pod = make_pod(uid)
    pod["spec"]["containers"][0]["resources"]["requests"] |= {
        DONGLE if k == "dongle" else k: v for k, v in requests.items()
    }
    return pod


def offering(**allocatable: str) -> dict[str, Any]:
    return {**NODE, "status": {"allocatable": {**NODE["status"]["allocatable"], **allocatable}}}


def test_extended_resources_are_counted_where_the_node_has_them() -> None:
    node, usage = offering(**{DONGLE: "5"}), NodeUsage()
    assert admit(with_requests("u1", cpu="100m", dongle="2"), node, usage) is None
    assert admit(with_requests("u2", cpu="100m", dongle="2"), node, usage) is None
    verdict = admit(with_requests("u3", cpu="100m", dongle="2"), node, usage)
    assert verdict is not None and verdict.refuse
    assert verdict.reason == f"OutOf{DONGLE}"
    assert verdict.message == f"Node didn't have enough resource: {DONGLE}, requested: 2, used: 4, capacity: 5"
    usage.remove("u1")
    assert admit(with_requests("u3", cpu="100m", dongle="2"), node, usage) is None


def test_an_extended_resource_of_the_whole_cluster_is_nothing_to_the_node_but_huge_pages_are() -> None:
    assert admit(with_requests("u1", dongle="2"), NODE, NodeUsage()) is None
    verdict = admit(with_requests("u1", **{"hugepages-2Mi": "4Mi"}), NODE, NodeUsage())
    assert verdict is not None and verdict.refuse and verdict.reason == "OutOfhugepages-2Mi"


def test_cpu_and_memory_are_named_before_extended_resources() -> None:
    verdict = admit(with_requests("u1", memory="9Gi", dongle="9"), offering(**{DONGLE: "5"}), NodeUsage())
    assert verdict is not None and verdict.reason == "OutOfmemory"


def test_an_extended_resource_that_a_resource_claim_provides_is_refused() -> None:
    pod = with_requests("u1", dongle="1")
    pod["status"] = {"extendedResourceClaimStatus": {"resourceClaimName": "c", "requestMappings": []}}
    verdict = admit(pod, NODE, NodeUsage())
    assert verdict is not None and verdict.refuse and "extendedResourceClaimStatus" in verdict.message


def test_a_node_selector_that_does_not_match_is_refused() -> None:
    pod = make_pod()
    pod["spec"]["nodeSelector"] = {"kubernetes.io/arch": "arm64"}
    verdict = admit(pod, NODE, NodeUsage())
    assert verdict is not None and verdict.reason == "NodeAffinity"


def test_a_selector_for_the_instance_is_left_to_sizing() -> None:
    pod = make_pod()
    pod["spec"]["nodeSelector"] = {"node.kubernetes.io/instance-type": "l1.small"}
    assert admit(pod, NODE, NodeUsage()) is None


def with_affinity(*terms: Json, **spec: Any) -> Json:
    pod = make_pod()
    required = {"nodeSelectorTerms": list(terms)}
    pod["spec"] |= {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}, **spec}
    return pod


def wants(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def test_required_node_affinity_that_does_not_match_is_refused_in_a_kubelets_words() -> None:
    verdict = admit(with_affinity(wants("kubernetes.io/arch", "NotIn", "amd64")), NODE, NodeUsage())
    assert verdict is not None and verdict.refuse
    assert (verdict.reason, verdict.message) == (
        "NodeAffinity",
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )
    assert admit(with_affinity(wants("kubernetes.io/arch", "In", "amd64")), NODE, NodeUsage()) is None


@pytest.mark.parametrize(
    "key",
    ["node.kubernetes.io/instance-type", "karpenter.sh/capacity-type", "karpenter.k8s.aws/instance-family"],
)
def test_affinity_for_the_instance_is_left_to_sizing_and_the_rest_of_its_term_is_not(key: str) -> None:
    term = wants(key, "In", "l1")
    assert admit(with_affinity(term), NODE, NodeUsage()) is None
    term["matchExpressions"] += wants("disk", "Exists")["matchExpressions"]
    assert admit(with_affinity(term), NODE, NodeUsage()) is not None


def tainted(*taints: Json) -> Json:
    return {**NODE, "spec": {"taints": list(taints)}}


def test_a_taint_of_no_execute_that_is_not_tolerated_refuses_and_others_are_the_schedulers() -> None:
    own = {"key": "virtual-kubelet.io/provider", "value": "aws", "effect": "NoSchedule"}
    assert admit(make_pod(), tainted(own), NodeUsage()) is None
    verdict = admit(make_pod(), tainted(own, {"key": "k", "value": "v", "effect": "NoExecute"}), NodeUsage())
    assert verdict is not None and verdict.refuse
    assert (verdict.reason, verdict.message) == (
        "TaintToleration",
        "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    )


def test_the_first_failure_in_the_order_of_a_kubelet_is_told() -> None:
    """Capacity, affinity, ports, taints."""
    node = tainted({"key": "k", "effect": "NoExecute"})
    wrong = with_affinity(wants("disk", "Exists"))
    wrong["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "9"
    assert (verdict := admit(wrong, node, NodeUsage())) is not None and verdict.reason == "OutOfcpu"
    wrong["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1"
    assert (verdict := admit(wrong, node, NodeUsage())) is not None and verdict.reason == "NodeAffinity"
    port = {"containerPort": 80, "hostPort": 80}
    usage, held = NodeUsage(), make_pod("u7")
    held["spec"]["containers"][0]["ports"] = [port]
    assert admit(held, NODE, usage) is None
    second = make_pod("u8")
    second["spec"]["containers"][0]["ports"] = [port]
    assert (verdict := admit(second, node, usage)) is not None and verdict.reason == "NodePorts"
    assert (verdict := admit(make_pod("u9"), node, usage)) is not None and verdict.reason == "TaintToleration"


def test_a_label_of_another_system_is_refused_before_everything_else() -> None:
    verdict = admit(make_pod(cpu="9", labels={"kubernetes.io/os": "windows"}), NODE, NodeUsage())
    assert verdict is not None and verdict.reason == "PodOSSelectorNodeLabelDoesNotMatch"
    assert admit(make_pod(labels={"kubernetes.io/os": "linux"}), NODE, NodeUsage()) is None


def test_a_volume_that_cannot_be_mounted_is_refused_by_name() -> None:
    pod = make_pod()
    pod["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]
    verdict = admit(pod, NODE, NodeUsage())
    assert verdict is not None and verdict.refuse
    assert "persistentVolumeClaim" in verdict.message


OLD = InstanceRuntime("containerd", "1.6.20")
NEW = InstanceRuntime("containerd", "2.4.2", ("",), True, True, True)


@pytest.mark.parametrize(
    ("spec", "able"),
    [
        ({"volumes": [{"name": "v", "image": {"reference": "x"}}]}, True),
        ({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "recursiveReadOnly": "Enabled"}]}]}, True),
        ({"securityContext": {"supplementalGroupsPolicy": "Strict"}}, True),
        ({"hostUsers": False}, False),
        ({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]}, False),
    ],
)
def test_what_the_runtime_of_the_instances_can_do_is_admitted(spec: dict[str, Any], able: bool) -> None:
    pod = make_pod()
    pod["spec"].update(spec)
    refused = admit(pod, NODE, NodeUsage(), features_of(OLD))
    assert refused is not None and refused.refuse
    assert (admit(pod, NODE, NodeUsage(), features_of(NEW)) is None) is able


@pytest.mark.parametrize(
    ("setting", "runs"),
    [
        ("refuse", False),
        ("run", True),
        ("app in (exporter, other)", True),
        ("app=exporter,tier", False),
        ("!app", False),
    ],
)
def test_a_daemonset_pod_is_held_unless_wanted(setting: str, runs: bool) -> None:
    owners = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    verdict = hold_by_policy(make_pod(ownerReferences=owners, labels={"app": "exporter"}), parse_daemonsets(setting))
    assert (verdict is None) is runs
    if verdict is not None:
        assert (verdict.refuse, verdict.reason) == (False, "DaemonSetNotSupported")
    assert hold_by_policy(make_pod(), parse_daemonsets(setting)) is None, "no pod of a DaemonSet"


def test_a_mirror_pod_is_held() -> None:
    assert (
        hold_by_policy(make_pod(annotations={"kubernetes.io/config.mirror": "x"}), parse_daemonsets("run")) is not None
    )


def with_port(pod: dict[str, Any], port: int, **more: Any) -> dict[str, Any]:
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": port, "hostPort": port, "protocol": "TCP", **more}]
    return pod


def test_a_host_port_of_a_node_belongs_to_one_pod_at_a_time() -> None:
    usage = NodeUsage()
    assert admit(with_port(make_pod("u1"), 80), NODE, usage) is None
    verdict = admit(with_port(make_pod("u2"), 80), NODE, usage)
    assert verdict is not None and verdict.refuse and verdict.reason == "NodePorts"
    assert admit(with_port(make_pod("u3"), 81), NODE, usage) is None
    usage.remove("u1")
    assert admit(with_port(make_pod("u2"), 80), NODE, usage) is None


def test_host_ports_of_other_addresses_or_protocols_do_not_conflict() -> None:
    usage = NodeUsage()
    assert admit(with_port(make_pod("u1"), 53, hostIP="10.0.0.1"), NODE, usage) is None
    assert admit(with_port(make_pod("u2"), 53, hostIP="10.0.0.2"), NODE, usage) is None
    assert admit(with_port(make_pod("u3"), 53, protocol="UDP", hostIP="10.0.0.1"), NODE, usage) is None
    assert admit(with_port(make_pod("u4"), 53), NODE, NodeUsage()) is None
    verdict = admit(with_port(make_pod("u4", cpu="0"), 53, hostIP="0.0.0.0"), {**NODE, "status": {}}, usage)
    assert verdict is not None and verdict.reason == "NodePorts"


def test_a_host_port_at_all_addresses_conflicts_with_any_and_goes_as_often_as_it_came() -> None:
    held = HeldPorts()
    one, every = HostPort("TCP", "10.0.0.1", 53), HostPort("TCP", "", 53)
    held.hold("u1", frozenset({one}))
    held.hold("u2", frozenset({HostPort("TCP", "10.0.0.2", 53)}))
    assert not held.has_free([every]) and not held.has_free([one])
    assert held.has_free([HostPort("TCP", "10.0.0.3", 53), HostPort("UDP", "", 53), HostPort("TCP", "", 54)])
    held.hold("u2", frozenset({every}))
    held.release("u1")
    assert not held.has_free([one])
    held.release("u2")
    held.release("u2")
    assert held.has_free([one, every])


def test_pods_with_many_host_ports_cost_little_to_compare() -> None:
    """Each was compared with each: two such pods held the provider's event loop for minutes."""
    usage = NodeUsage()
    for uid, protocol in (("u1", "TCP"), ("u2", "UDP"), ("u3", "SCTP")):
        pod = make_pod(uid)
        pod["spec"]["containers"][0]["ports"] = [
            {"containerPort": 1, "hostPort": number, "protocol": protocol} for number in range(1, 20_001)
        ]
        began = time.process_time()
        assert admit(pod, NODE, usage) is None
        assert time.process_time() - began < 20.0  # minutes, where each is compared with each
