"""ContainerStatus lists from what the runtime says."""

from __future__ import annotations

import pytest

from tests.unit.agent.worker.builders import PROBE, container, deleted, exited, observed, pod, record, running, sidecar
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import State
from vk_provider.agent.worker.status.container import StatusInputs, compute_statuses

MAIN = container("main")
INIT = container("init")
NOTHING = StatusInputs(previous={}, probes=ProbeResults())


@pytest.mark.parametrize(("init", "reason"), [(None, "ContainerCreating"), ([INIT], "PodInitializing")])
def test_a_container_that_was_never_created_waits(init: list | None, reason: str) -> None:
    status = compute_statuses(pod(MAIN, init=init), observed(), NOTHING).regular[0]
    assert status["state"] == {"waiting": {"reason": reason}}
    assert (status["ready"], status["started"], status["restartCount"]) == (False, False, 0)


def test_a_running_container_is_started_and_ready_without_probes() -> None:
    status = compute_statuses(pod(MAIN), observed(running(MAIN, created=60)), NOTHING).regular[0]
    assert status["state"] == {"running": {"startedAt": "1970-01-01T00:01:00Z"}}
    assert status["ready"] and status["started"]
    assert status["containerID"] == "containerd://main-60"
    assert status["imageID"] == "docker.io/library/busybox@sha256:1"


@pytest.mark.parametrize(
    ("startup", "readiness", "started", "ready"),
    [
        ("unknown", "failure", False, False),
        ("success", "failure", True, False),
        ("success", "success", True, True),
        ("unknown", "success", False, False),
    ],
)
def test_probes_gate_started_and_ready(startup: str, readiness: str, started: bool, ready: bool) -> None:
    probed = container("main", startupProbe=PROBE, readinessProbe=PROBE)
    probes = ProbeResults(startup={"main-10": startup}, readiness={"main-10": readiness})
    inputs = StatusInputs(previous={}, probes=probes)
    status = compute_statuses(pod(probed), observed(running(probed)), inputs).regular[0]
    assert (status["started"], status["ready"]) == (started, ready)


def test_the_last_state_is_the_container_before() -> None:
    seen = observed(exited(MAIN, 7, created=10, reason="Error"), running(MAIN, created=20, restart_count=1))
    status = compute_statuses(pod(MAIN), seen, NOTHING).regular[0]
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["containerID"]) == (7, "Error", "containerd://main-10")
    assert status["restartCount"] == 1


def test_a_failure_to_start_shows_as_waiting_with_the_end_before_it() -> None:
    inputs = StatusInputs(previous={}, probes=ProbeResults(), failures={"main": ("CrashLoopBackOff", "back-off 10s")})
    status = compute_statuses(pod(MAIN), observed(exited(MAIN, 1)), inputs).regular[0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1


def test_a_failure_to_start_does_not_hide_the_end_of_a_deleted_pods_container() -> None:
    inputs = StatusInputs(previous={}, probes=ProbeResults(), failures={"main": ("CrashLoopBackOff", "back-off 10s")})
    status = compute_statuses(deleted(pod(MAIN)), observed(exited(MAIN, 1)), inputs).regular[0]
    assert status["state"]["terminated"]["exitCode"] == 1


def test_an_init_container_is_ready_when_it_succeeded() -> None:
    statuses = compute_statuses(pod(MAIN, init=[INIT]), observed(exited(INIT)), NOTHING)
    assert statuses.init[0]["ready"] is True and statuses.init[0]["started"] is False
    failed = compute_statuses(pod(MAIN, init=[INIT]), observed(exited(INIT, 1)), NOTHING)
    assert failed.init[0]["ready"] is False


def test_a_forgotten_init_container_counts_as_completed_once_others_were_created() -> None:
    statuses = compute_statuses(pod(MAIN, init=[INIT]), observed(running(MAIN)), NOTHING)
    assert statuses.init[0]["state"]["terminated"]["reason"] == "Completed"
    side = sidecar("side")
    statuses = compute_statuses(pod(MAIN, init=[side]), observed(running(MAIN)), NOTHING)
    assert "waiting" in statuses.init[0]["state"]


def test_a_forgotten_init_container_is_not_taken_for_completed_by_a_container_in_an_unknown_state() -> None:
    statuses = compute_statuses(pod(MAIN, init=[INIT]), observed(record(MAIN, State.UNKNOWN)), NOTHING)
    assert "waiting" in statuses.init[0]["state"]


def test_a_running_container_that_vanished_counts_as_restarted() -> None:
    old = {"name": "main", "state": {"running": {}}, "restartCount": 2, "containerID": "containerd://x"}
    inputs = StatusInputs(previous={"containerStatuses": [old]}, probes=ProbeResults())
    status = compute_statuses(pod(MAIN), observed(), inputs).regular[0]
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert status["restartCount"] == 3


def test_restart_all_containers_counts_and_says_why_in_the_last_state() -> None:
    old = {
        "name": "main",
        "state": {"terminated": {"exitCode": 9, "reason": "Error"}},
        "restartCount": 0,
        "containerID": "containerd://x",
        "imageID": "busybox@sha256:1",
    }
    removed = StatusInputs({"containerStatuses": [old]}, ProbeResults(), restarting_all=True)
    status = compute_statuses(pod(MAIN), observed(), removed).regular[0]
    assert status["state"]["waiting"]["reason"] == "RestartingAllContainers"
    assert (status["restartCount"], status["containerID"]) == (1, "containerd://x")
    after = StatusInputs({"containerStatuses": [status]}, ProbeResults())
    status = compute_statuses(pod(MAIN), observed(running(MAIN)), after).regular[0]
    assert status["restartCount"] == 1
    ended = status["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("RestartingAllContainers", 137)


def test_an_unseen_removal_keeps_how_the_container_ended() -> None:
    old = {"name": "main", "state": {"terminated": {"exitCode": 9}}, "restartCount": 0, "containerID": "containerd://x"}
    inputs = StatusInputs({"containerStatuses": [old]}, ProbeResults())
    status = compute_statuses(pod(MAIN), observed(running(MAIN)), inputs).regular[0]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 9)


@pytest.mark.parametrize(
    ("restarting_all", "reason"), [(False, "ContainerStatusUnknown"), (True, "RestartingAllContainers")]
)
def test_a_running_container_in_an_unknown_state_counts_as_ended_and_restarted(
    restarting_all: bool, reason: str
) -> None:
    old = {"name": "main", "state": {"running": {}}, "restartCount": 2, "containerID": "containerd://main-10"}
    inputs = StatusInputs({"containerStatuses": [old]}, ProbeResults(), restarting_all=restarting_all)
    status = compute_statuses(pod(MAIN), observed(record(MAIN, State.UNKNOWN)), inputs).regular[0]
    assert (status["state"]["terminated"]["reason"], status["state"]["terminated"]["exitCode"]) == (reason, 137)
    assert status["restartCount"] == 3


def test_lists_are_sorted_as_the_api_shows_them() -> None:
    wanted = pod(container("b"), container("a"), init=[container("z"), container("y")])
    statuses = compute_statuses(wanted, observed(), NOTHING)
    assert [status["name"] for status in statuses.regular] == ["a", "b"]
    assert [status["name"] for status in statuses.init] == ["z", "y"]


def test_resources_are_the_allocated_and_the_actual_ones() -> None:
    inputs = StatusInputs(
        previous={},
        probes=ProbeResults(),
        actuated={"main": {"requests": {"cpu": "1", "memory": "1Mi"}}},
    )
    allocated = container("main", resources={"requests": {"cpu": "2", "memory": "1Mi"}})
    status = compute_statuses(pod(allocated), observed(running(MAIN)), inputs).regular[0]
    assert status["allocatedResources"] == {"cpu": "2", "memory": "1Mi"}
    assert status["resources"] == {"requests": {"cpu": "1", "memory": "1Mi"}}


def test_mounts_are_listed_with_their_mode() -> None:
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b", "readOnly": True}]
    status = compute_statuses(pod(container("main", volumeMounts=mounts)), observed(), NOTHING).regular[0]
    assert status["volumeMounts"] == [
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": True, "recursiveReadOnly": "Disabled"},
    ]


@pytest.mark.parametrize(
    ("fields", "supported", "expected"),
    [
        ({"recursiveReadOnly": "IfPossible"}, True, "Enabled"),
        ({"recursiveReadOnly": "IfPossible"}, False, "Disabled"),
        ({"recursiveReadOnly": "Enabled"}, True, "Enabled"),
        ({"recursiveReadOnly": "Enabled"}, False, "Disabled"),
        ({"recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}, True, "Disabled"),
    ],
)
def test_a_mount_is_recursively_read_only_where_it_is_asked_for_and_possible(
    fields: dict[str, str], supported: bool, expected: str
) -> None:
    main = container("main", volumeMounts=[{"name": "a", "mountPath": "/a", "readOnly": True, **fields}])
    inputs = StatusInputs({}, ProbeResults(), recursive_read_only=supported)
    (mount,) = compute_statuses(pod(main), observed(running(main)), inputs).regular[0]["volumeMounts"]
    assert mount["recursiveReadOnly"] == expected


def test_messages_of_a_pod_share_twelve_kibibytes() -> None:
    many = [container(f"c{i}") for i in range(4)]
    seen = observed(*(exited(each, 1, message="x" * 4096) for each in many))
    for status in compute_statuses(pod(*many), seen, NOTHING).regular:
        assert len(status["state"]["terminated"]["message"]) == 3072


def test_an_ephemeral_container_is_never_ready() -> None:
    debug = container("debug")
    status = compute_statuses(pod(MAIN, ephemeralContainers=[debug]), observed(running(debug)), NOTHING).ephemeral[0]
    assert status["ready"] is False and "started" not in status


def test_a_created_container_still_waits() -> None:
    status = compute_statuses(pod(MAIN), observed(record(MAIN, State.CREATED)), NOTHING).regular[0]
    assert status["state"] == {"waiting": {"reason": "ContainerCreating"}}
