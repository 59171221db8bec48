"""A pod's way up on a real containerd: events, statuses, init containers, sidecars, hooks, failures to start."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.agent.worker_harness import (
    WorkerHarness,
    container,
    is_ready,
    is_running,
    make_harness,
    pod,
    status_of,
)
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker.status.publisher import SETTLE_S

pytestmark = pytest.mark.real


@pytest.fixture
async def harness(runtime: ContainerRuntime, containerd: PrivateContainerd) -> AsyncIterator[WorkerHarness]:
    async for each in make_harness(runtime, containerd):
        yield each


async def test_a_pod_is_published_once_and_as_running_and_ready(harness: WorkerHarness) -> None:
    started = time.monotonic()
    harness.send(pod())
    status = await harness.wait_for(is_running)
    # On a busy machine the start may take longer than a status is held back.
    slow = time.monotonic() - started > SETTLE_S
    assert len(harness.outbox.statuses) == 1 or (slow and len(harness.outbox.statuses) == 2)
    assert is_ready(status)
    assert status["podIP"] == harness.facts.pod_ip
    assert status["hostIP"] == harness.facts.primary_ip
    main = status_of(status, "main")
    assert main["containerID"].startswith("containerd://")
    assert main["started"] and main["ready"] and main["restartCount"] == 0
    assert harness.outbox.reasons() == ["Pulled", "Created", "Started"]
    assert harness.outbox.events[0]["fieldPath"] == "spec.containers{main}"


async def test_init_containers_run_one_after_the_other_before_the_others(harness: WorkerHarness) -> None:
    shared = {"name": "shared", "mountPath": "/shared"}
    first = container("first", "echo one >> /shared/log", volumeMounts=[shared])
    second = container("second", "echo two >> /shared/log", volumeMounts=[shared])
    main = container("main", "cat /shared/log; sleep 1000", volumeMounts=[shared])
    harness.send(pod(main, initContainers=[first, second], volumes=[{"name": "shared", "emptyDir": {}}]))
    status = await harness.wait_for(is_running)
    assert status_of(status, "first")["state"]["terminated"]["exitCode"] == 0
    assert status_of(status, "second")["ready"] is True
    await harness.wait_log("two")
    assert harness.log() == "one\ntwo"


async def test_a_failing_init_container_of_a_never_pod_fails_the_pod(harness: WorkerHarness) -> None:
    harness.send(pod(initContainers=[container("init", "exit 3")], restartPolicy="Never"))
    status = await harness.wait_finished()
    assert status["phase"] == "Failed"
    assert status_of(status, "init")["state"]["terminated"]["exitCode"] == 3
    assert status_of(status, "main")["state"]["waiting"]["reason"] == "PodInitializing"


async def test_a_sidecar_starts_first_and_does_not_keep_a_job_alive(harness: WorkerHarness) -> None:
    sidecar = container("sidecar", "trap 'exit 0' TERM; sleep 1000 & wait", restartPolicy="Always")
    harness.send(pod(container("main", "sleep 0.2; exit 0"), initContainers=[sidecar], restartPolicy="Never"))
    status = await harness.wait_finished()
    assert status["phase"] == "Succeeded"
    assert status_of(status, "sidecar")["state"]["terminated"]["exitCode"] == 0


async def test_environment_and_downward_api_are_there(harness: WorkerHarness) -> None:
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        {"name": "GREETING", "value": "hello $(POD_IP)"},
    ]
    harness.send(pod(container("main", "echo $GREETING; hostname; sleep 1000", env=env)))
    await harness.wait_log("web")
    assert harness.log() == f"hello {harness.facts.pod_ip}\nweb"


async def test_an_image_that_does_not_exist_waits_with_the_kubelets_reasons(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", image="127.0.0.1:9/none:1", imagePullPolicy="Always")))
    status = await harness.wait_for(lambda s: "waiting" in status_of(s, "main")["state"] and s["containerStatuses"])
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["state"]["waiting"]["reason"] == "ImagePullBackOff", 15
    )
    assert status["phase"] == "Pending"
    assert harness.outbox.reasons()[:3] == ["Pulling", "Failed", "Failed"]
    assert harness.outbox.events[2]["message"] == "Error: ErrImagePull"


async def test_a_missing_config_map_waits_and_starts_when_it_comes(harness: WorkerHarness) -> None:
    wanted = pod(container("main", env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]))
    harness.send(wanted, {"configMaps": {"cm": None}})
    status = await harness.wait_for(
        lambda s: (status_of(s, "main")["state"].get("waiting") or {}).get("reason") == "CreateContainerConfigError"
    )
    assert status_of(status, "main")["state"]["waiting"]["message"] == 'configmap "cm" not found'
    harness.send(wanted, {"configMaps": {"cm": {"data": {"a": "1"}}}})
    await harness.wait_for(is_running)


async def test_a_volume_that_cannot_be_set_up_keeps_the_pod_pending(harness: WorkerHarness) -> None:
    wanted = pod(
        container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", "configMap": {"name": "cm", "defaultMode": 420}}],
    )
    harness.send(wanted, {"configMaps": {"cm": None}})
    event = await harness.wait_event("FailedMount")
    assert event["message"] == 'MountVolume.SetUp failed for volume "v" : configmap "cm" not found'
    harness.send(wanted, {"configMaps": {"cm": {"data": {"a": "1"}}}})
    await harness.wait_for(is_running)


async def test_a_failing_post_start_hook_kills_the_container(harness: WorkerHarness) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "exit 1"]}}}
    harness.send(pod(container("main", "trap 'exit 0' TERM; sleep 1000 & wait", lifecycle=hook)))
    status = await harness.wait_for(
        lambda s: (
            (status_of(s, "main")["state"].get("waiting") or {}).get("reason") == "PostStartHookError"
            or (status_of(s, "main")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        )
    )
    assert "FailedPostStartHook" in harness.outbox.reasons()
    assert status["phase"] != "Failed"


async def test_a_command_that_does_not_exist_is_a_run_container_error(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", command=["/no/such/program"]), restartPolicy="Never"))
    status = await harness.wait_finished()
    ended = status_of(status, "main")["state"]["terminated"]
    assert status["phase"] == "Failed"
    assert ended["exitCode"] == 128 and ended["reason"] == "StartError"


async def test_an_ephemeral_container_is_started_once(harness: WorkerHarness) -> None:
    harness.send(pod())
    await harness.wait_for(is_running)
    spec = {**harness.pod["spec"], "ephemeralContainers": [container("debug", "echo hi", targetContainerName="main")]}
    harness.send({**harness.pod, "spec": spec})
    status = await harness.wait_for(
        lambda s: s.get("ephemeralContainerStatuses") and "terminated" in status_of(s, "debug")["state"]
    )
    assert status_of(status, "debug")["restartCount"] == 0
    assert status["phase"] == "Running"
