"""Statuses that no agent can make."""

from __future__ import annotations

from typing import Any

from vk_provider.pods.provider_status import (
    build_lost_status,
    build_pending_status,
    build_rejected_status,
    build_terminated_status,
    build_unstarted_status,
)

NOW = "2026-01-01T00:00:00Z"
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 3},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
RUNNING = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
    "containerStatuses": [
        {"name": "a", "ready": True, "containerID": "containerd://1", "state": {"running": {"startedAt": NOW}}},
        {"name": "b", "ready": False, "state": {"terminated": {"exitCode": 3}}},
        {"name": "w", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}},
    ],
}


def test_pending_says_containers_are_being_created_and_where() -> None:
    status = build_pending_status(POD, NOW, ("10.0.0.1",), ("10.0.0.2",), NOW)
    assert (status["phase"], status["hostIP"], status["podIP"]) == ("Pending", "10.0.0.1", "10.0.0.2")
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert status["observedGeneration"] == 3


def test_pending_says_the_addresses_of_both_families() -> None:
    status = build_pending_status(POD, NOW, ("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), NOW)
    assert (status["podIP"], status["podIPs"]) == ("10.0.0.2", [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}])
    assert (status["hostIP"], status["hostIPs"]) == ("10.0.0.1", [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}])


def found(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    condition = next(item for item in status["conditions"] if item["type"] == kind)
    return condition["status"], condition.get("reason", ""), condition.get("message", "")


def test_pending_says_that_there_is_no_sandbox_yet() -> None:
    """GeneratePodReadyToStartContainersCondition."""
    status = build_pending_status(POD, NOW, (), (), NOW)
    assert found(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", "no pod sandbox exists")
    assert found(status, "Initialized") == ("True", "", "")
    unready = ("False", "ContainersNotReady", "containers with unready status: [c]")
    assert found(status, "Ready") == found(status, "ContainersReady") == unready
    assert found(status, "PodScheduled") == ("True", "", "")
    assert {item["observedGeneration"] for item in status["conditions"]} == {3}


def test_pending_names_sidecars_among_what_is_not_ready_and_all_init_containers_among_what_is_not_complete() -> None:
    spec = {**POD["spec"], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}
    status = build_pending_status({**POD, "spec": spec}, NOW, (), (), NOW)
    assert found(status, "Initialized")[2] == "containers with incomplete status: [i s]"
    assert found(status, "Ready")[2] == "containers with unready status: [s c]"


def test_pending_has_the_condition_of_pods_that_restart_as_a_whole() -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [5]}}]
    pod = {**POD, "spec": {"containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}]}}
    assert found(build_pending_status(pod, NOW, (), (), NOW), "AllContainersRestarting") == ("False", "", "")


def test_pending_lists_containers_by_name_with_their_mounts() -> None:
    mounts = [
        {"name": "v", "mountPath": "/v"},
        {"name": "w", "mountPath": "/w", "readOnly": True},
        {"name": "x", "mountPath": "/x", "readOnly": True, "recursiveReadOnly": "IfPossible"},
    ]
    pod = {**POD, "spec": {"containers": [{"name": "b", "image": "i"}, {"name": "a", "volumeMounts": mounts}]}}
    statuses = build_pending_status(pod, NOW, (), (), NOW)["containerStatuses"]
    assert [item["name"] for item in statuses] == ["a", "b"]
    assert statuses[0]["volumeMounts"] == [
        {"name": "v", "mountPath": "/v"},
        {"name": "w", "mountPath": "/w", "readOnly": True, "recursiveReadOnly": "Disabled"},
        {"name": "x", "mountPath": "/x", "readOnly": True},
    ]
    assert "volumeMounts" not in statuses[1]


def test_pending_takes_nothing_of_what_others_wrote_but_the_time_of_the_scheduling() -> None:
    then = "2025-12-31T23:59:59Z"
    written = {
        "phase": "Failed",
        "reason": "Manual",
        "podIPs": [{"ip": "192.0.2.1"}],
        "startTime": then,
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": then},
            {"type": "Ready", "status": "True", "lastTransitionTime": then},
        ],
    }
    status = build_pending_status({**POD, "status": written}, NOW, (), (), NOW)
    times = {item["type"]: item["lastTransitionTime"] for item in status["conditions"]}
    assert (times["PodScheduled"], times["Ready"]) == (then, NOW)
    assert (status["phase"], status["startTime"]) == ("Pending", NOW)
    assert "reason" not in status and "podIPs" not in status


def test_pending_has_the_resources_of_the_whole_pod() -> None:
    container = {**POD["spec"]["containers"][0], "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}
    status = build_pending_status({**POD, "spec": {"containers": [container, container]}}, NOW, (), (), NOW)
    assert status["allocatedResources"] == {"cpu": "2"}
    assert status["resources"] == {"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}


def test_pending_with_init_containers_says_initializing() -> None:
    pod = {**POD, "spec": {**POD["spec"], "initContainers": [{"name": "i", "image": "x"}]}}
    status = build_pending_status(pod, NOW, (), (), NOW)
    assert status["initContainerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert "podIP" not in status


def test_a_host_network_pod_has_the_address_of_its_instance() -> None:
    pod = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}
    assert build_pending_status(pod, NOW, ("10.0.0.1",), ("10.0.0.2",), NOW)["podIP"] == "10.0.0.1"


def test_a_rejected_pod_fails_with_the_kubelets_words() -> None:
    status = build_rejected_status(POD, "OutOfcpu", "no room", NOW)
    assert status["phase"] == "Failed"
    assert (status["reason"], status["message"]) == ("OutOfcpu", "Pod was rejected: no room")


def test_a_lost_pod_keeps_known_exit_codes_and_ends_the_rest() -> None:
    status = build_lost_status(POD, RUNNING, "InstanceTerminated", "gone", NOW)
    ended = {item["name"]: item["state"]["terminated"] for item in status["containerStatuses"]}
    assert ended["b"] == {"exitCode": 3}
    assert (ended["a"]["exitCode"], ended["a"]["reason"]) == (137, "ContainerStatusUnknown")
    assert ended["a"]["containerID"] == "containerd://1"
    assert ended["w"]["exitCode"] == 137
    conditions = {item["type"]: item["status"] for item in status["conditions"]}
    assert conditions == {"Ready": "False", "PodScheduled": "True", "DisruptionTarget": "True"}
    assert not any(item["ready"] for item in status["containerStatuses"])


def test_a_lost_pod_that_was_ready_failed_and_one_that_was_not_keeps_its_reason() -> None:
    """mergePodStatus of the kubelet's status manager: both conditions when one of them is True, else none."""
    gate = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "lastTransitionTime": "then"}
    ready = {"type": "ContainersReady", "status": "True", "lastTransitionTime": "then"}
    unready = {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"}
    status = build_lost_status(POD, {**RUNNING, "conditions": [gate, ready]}, "InstanceTerminated", "gone", NOW)
    assert found(status, "Ready") == found(status, "ContainersReady") == ("False", "PodFailed", "")
    times = {item["type"]: item["lastTransitionTime"] for item in status["conditions"]}
    assert (times["Ready"], times["ContainersReady"]) == ("then", NOW)
    status = build_lost_status(POD, {**RUNNING, "conditions": [gate, unready]}, "InstanceTerminated", "gone", NOW)
    assert (found(status, "Ready")[1], found(status, "ContainersReady")[1]) == (gate["reason"], unready["reason"])


def with_init(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "spec": {**pod["spec"], "initContainers": [{"name": "i", "image": "x"}]}}


def test_a_pod_that_was_deleted_before_anything_ran_has_the_statuses_of_its_containers_and_a_terminal_phase() -> None:
    status = build_unstarted_status(POD, None, NOW, (), NOW)
    assert status["phase"] == "Failed"
    assert status["startTime"] == NOW
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert "reason" not in status and "message" not in status
    unready = ("False", "ContainersNotReady", "containers with unready status: [c]")
    assert found(status, "Ready") == found(status, "ContainersReady") == unready
    assert found(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", "no pod sandbox exists")


def test_a_container_behind_an_init_container_that_never_succeeded_did_not_end() -> None:
    pod = with_init(POD)
    status = build_unstarted_status(pod, build_pending_status(pod, NOW, (), (), NOW), NOW, (), NOW)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_a_lost_pod_whose_init_containers_were_done_ends_all_its_containers() -> None:
    pod = with_init(POD)
    last = build_pending_status(pod, NOW, (), (), NOW)
    last["initContainerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    status = build_lost_status(pod, last, "InstanceTerminated", "gone", NOW)
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    assert status["initContainerStatuses"][0]["state"] == {"terminated": {"exitCode": 0}}


REFUSED = {"phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected: no"}


def deleted(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": NOW, "generation": 4}}


def test_a_rejected_pod_that_is_deleted_has_all_conditions_and_no_container_that_could_be_located() -> None:
    """SyncTerminatedPod and TerminatePod of a pod whose phase was Failed before."""
    then = "2025-12-31T23:59:59Z"
    gate = {"type": "example.com/Gate", "status": "False", "lastTransitionTime": then}
    pod = deleted({**POD, "status": {**REFUSED, "startTime": then, "conditions": [gate]}})
    status = build_terminated_status(pod, REFUSED, then, ("192.0.2.1", "2001:db8::1"), NOW)
    assert {name: status[name] for name in REFUSED} == REFUSED
    assert (status["startTime"], status["observedGeneration"]) == (then, 4)
    assert (status["hostIP"], len(status["hostIPs"])) == ("192.0.2.1", 2) and "podIP" not in status
    assert found(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", "no pod sandbox exists")
    assert found(status, "Initialized") == found(status, "PodScheduled") == ("True", "", "")
    assert found(status, "Ready") == found(status, "ContainersReady") == ("False", "PodFailed", "")
    assert {item["observedGeneration"] for item in status["conditions"]} == {4}
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"], ended["startedAt"]) == ("ContainerStatusUnknown", 137, None)


def test_of_a_rejected_pod_with_init_containers_only_the_first_is_one_that_could_not_be_located() -> None:
    """hasPodInitialized and initializedContainers of the kubelet's status manager."""
    spec = {**POD["spec"], "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "restartPolicy": "Always"}]}
    status = build_terminated_status(deleted({**POD, "spec": spec}), REFUSED, NOW, (), NOW)
    states = [item["state"] for item in (*status["initContainerStatuses"], *status["containerStatuses"])]
    assert [next(iter(state)) for state in states] == ["terminated", "waiting", "waiting"]
    assert states[1] == states[2] == {"waiting": {"reason": "PodInitializing"}}
    assert found(status, "Initialized")[1:] == ("ContainersNotInitialized", "containers with incomplete status: [i s]")
    assert found(status, "Ready") == ("False", "PodFailed", "")
