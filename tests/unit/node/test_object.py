"""What the Node object says."""

from dataclasses import replace

import pytest

from vk_provider.node.features import DECLARED_FEATURES
from vk_provider.node.object import build_labels, build_node, build_status, condition_states, plan_reconcile
from vk_provider.node.spec import PROVIDER_TAINT_KEY, NodeSpec, Taint

CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "1Ti"}
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
SPEC = NodeSpec("n1", "10.0.0.1", CAPACITY, zone="z", region="r", taints=(Taint(PROVIDER_TAINT_KEY, "local"),))
NOW = 1_800_000_000.0


def test_a_new_node_has_the_kubelets_labels_taint_and_addresses() -> None:
    node = build_node(SPEC, ["caches not synced"], NOW)
    labels = node["metadata"]["labels"]
    assert labels["kubernetes.io/hostname"] == "n1"
    assert labels["topology.kubernetes.io/zone"] == "z"
    assert node["spec"]["taints"] == [{"key": PROVIDER_TAINT_KEY, "value": "local", "effect": "NoSchedule"}]
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "n1"},
    ]
    assert node["status"]["allocatable"] == CAPACITY
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.37.")


def test_a_node_of_both_families_has_two_internal_addresses_the_primary_one_first() -> None:
    addresses = build_node(replace(SPEC, second_ip="fd00::1"), [], NOW)["status"]["addresses"]
    assert [each["address"] for each in addresses if each["type"] == "InternalIP"] == ["10.0.0.1", "fd00::1"]


def test_conditions_stand_in_the_kubelets_order_with_its_words() -> None:
    conditions = build_status(SPEC, [], {}, NOW)["conditions"]
    assert [(each["type"], each["status"], each["reason"]) for each in conditions] == [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ]
    assert conditions[3]["message"] == "kubelet is posting ready status"


def test_reasons_for_not_ready_are_aggregated() -> None:
    one = condition_states(build_status(SPEC, ["a"], {}, NOW))["Ready"]
    two = condition_states(build_status(SPEC, ["a", "b", "a"], {}, NOW))["Ready"]
    assert one == ("False", "KubeletNotReady", "a")
    assert two == ("False", "KubeletNotReady", "[a, b]")


def test_a_missing_resource_keeps_the_node_from_ready() -> None:
    spec = NodeSpec("n1", "10.0.0.1", {"cpu": "4", "pods": "10"})
    ready = condition_states(build_status(spec, [], {}, NOW))["Ready"]
    assert ready == ("False", "KubeletNotReady", "missing node capacity for resources: memory, ephemeral-storage")


def test_transition_times_move_only_with_the_status() -> None:
    first = build_status(SPEC, ["x"], {}, NOW)
    second = build_status(SPEC, ["y"], first, NOW + 60)
    third = build_status(SPEC, [], second, NOW + 120)
    since = [status["conditions"][3]["lastTransitionTime"] for status in (first, second, third)]
    assert since[0] == since[1] == "2027-01-15T08:00:00Z"
    assert since[2] == "2027-01-15T08:02:00Z"
    assert second["conditions"][3]["lastHeartbeatTime"] == "2027-01-15T08:01:00Z"


def test_declared_features_are_sorted_and_unique() -> None:
    spec = NodeSpec("n1", "10.0.0.1", CAPACITY, declared_features=("B", "A", "B"))
    assert build_status(spec, [], {}, NOW)["declaredFeatures"] == ["A", "B"]


def test_features_that_an_earlier_provider_declared_are_taken_away() -> None:
    assert build_status(SPEC, [], {}, NOW)["declaredFeatures"] is None


def existing(**changes: object) -> dict[str, object]:
    node = build_node(SPEC, [], NOW)
    node["metadata"]["resourceVersion"] = "7"
    node["spec"].update(changes)
    return node


def test_a_node_in_step_is_not_patched() -> None:
    assert plan_reconcile(SPEC, existing()) is None


def test_a_missing_label_is_restored_and_foreign_ones_stay() -> None:
    node = existing()
    node["metadata"]["labels"] = {**build_labels(SPEC), "mine": "x", "type": "other"}
    assert plan_reconcile(SPEC, node) == {"metadata": {"labels": {"type": "virtual-kubelet"}}}


def test_our_taint_goes_when_it_is_configured_away_and_others_stay() -> None:
    foreign = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    node = existing(taints=[{"key": PROVIDER_TAINT_KEY, "value": "local", "effect": "NoSchedule"}, foreign])
    untainted = NodeSpec("n1", "10.0.0.1", CAPACITY, zone="z", region="r")
    assert plan_reconcile(untainted, node) == {
        "spec": {"taints": [foreign]},
        "metadata": {"resourceVersion": "7"},
    }


@pytest.mark.parametrize(("labels", "value"), [({}, "true"), ({EXCLUDE: "false"}, "false")])
def test_a_node_is_no_target_of_load_balancers_unless_its_configuration_says_so(
    labels: dict[str, str], value: str
) -> None:
    """nodeIncludedPredicate of k8s.io/cloud-provider reads the label as a boolean, and an absent one as false."""
    spec = replace(SPEC, labels=labels)
    assert build_node(spec, [], 0.0)["metadata"]["labels"][EXCLUDE] == value
    present = build_node(spec, [], 0.0)
    del present["metadata"]["labels"][EXCLUDE]
    patch = plan_reconcile(spec, present)
    assert patch is not None and patch["metadata"]["labels"] == {EXCLUDE: value}


def test_nothing_is_declared_that_the_kubelet_api_does_not_speak() -> None:
    """The API server would open WebSockets of version 5 to it."""
    assert "ExtendWebSocketsToKubelet" not in DECLARED_FEATURES
    declared = build_status(replace(SPEC, declared_features=DECLARED_FEATURES), [], {}, NOW)["declaredFeatures"]
    assert declared == sorted(DECLARED_FEATURES)
