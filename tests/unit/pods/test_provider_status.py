"""Statuses that no agent can make."""

from __future__ import annotations

from typing import Any

from vk_provider.pods.provider_status import (
    build_lost_status,
    build_pending_status,
    build_rejected_status,
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
    status = build_pending_status(POD, NOW, "10.0.0.1", "10.0.0.2", NOW)
    assert (status["phase"], status["hostIP"], status["podIP"]) == ("Pending", "10.0.0.1", "10.0.0.2")
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert status["observedGeneration"] == 3


def test_pending_has_the_resources_of_the_whole_pod() -> None:
    container = {**POD["spec"]["containers"][0], "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}
    status = build_pending_status({**POD, "spec": {"containers": [container, container]}}, NOW, "", "", NOW)
    assert status["allocatedResources"] == {"cpu": "2"}
    assert status["resources"] == {"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}


def test_pending_with_init_containers_says_initializing() -> None:
    pod = {**POD, "spec": {**POD["spec"], "initContainers": [{"name": "i", "image": "x"}]}}
    status = build_pending_status(pod, NOW, "", "", NOW)
    assert status["initContainerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert "podIP" not in status


def test_a_host_network_pod_has_the_address_of_its_instance() -> None:
    pod = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}
    assert build_pending_status(pod, NOW, "10.0.0.1", "10.0.0.2", NOW)["podIP"] == "10.0.0.1"


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


def with_init(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "spec": {**pod["spec"], "initContainers": [{"name": "i", "image": "x"}]}}


def test_a_pod_that_was_deleted_before_anything_ran_has_the_statuses_of_its_containers_and_a_terminal_phase() -> None:
    status = build_unstarted_status(POD, None, NOW, NOW)
    assert status["phase"] == "Failed"
    assert status["startTime"] == NOW
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert "reason" not in status and "message" not in status


def test_a_container_behind_an_init_container_that_never_succeeded_did_not_end() -> None:
    pod = with_init(POD)
    status = build_unstarted_status(pod, build_pending_status(pod, NOW, "", "", NOW), NOW, NOW)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_a_lost_pod_whose_init_containers_were_done_ends_all_its_containers() -> None:
    pod = with_init(POD)
    last = build_pending_status(pod, NOW, "", "", NOW)
    last["initContainerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    status = build_lost_status(pod, last, "InstanceTerminated", "gone", NOW)
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    assert status["initContainerStatuses"][0]["state"] == {"terminated": {"exitCode": 0}}
