"""Restarts, probes and the end of a pod on a real containerd; what a restarted agent keeps."""

from __future__ import annotations

import asyncio
import os
import signal
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
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

OBEDIENT = "trap 'exit 0' TERM; echo up; sleep 1000 & wait"
"""Ends on SIGTERM, once it has said that it is up: before, a PID 1 ignores the signal."""


@pytest.fixture
async def harness(runtime: ContainerRuntime, containerd: PrivateContainerd) -> AsyncIterator[WorkerHarness]:
    async for each in make_harness(runtime, containerd):
        yield each


async def test_a_container_that_fails_is_restarted_at_once_and_then_backs_off(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", "echo bye > /dev/termination-log; exit 7")))
    status = await harness.wait_for(
        lambda s: (status_of(s, "main")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    )
    main = status_of(status, "main")
    assert main["restartCount"] == 1
    assert main["lastState"]["terminated"]["exitCode"] == 7
    assert main["lastState"]["terminated"]["message"] == "bye\n"
    assert main["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main pod=web_")
    assert status["phase"] == "Running"
    assert "BackOff" in harness.outbox.reasons()


async def test_a_finished_job_succeeds_and_leaves_nothing_running(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", "exit 0"), restartPolicy="Never"))
    status = await harness.wait_finished()
    assert status["phase"] == "Succeeded"
    ended = status_of(status, "main")["state"]["terminated"]
    assert ended["reason"] == "Completed" and ended["exitCode"] == 0
    phases = [status["phase"] for status, _ in harness.outbox.statuses]
    assert "Succeeded" not in phases[:-2]
    assert not [c for c in await harness.runtime.list_containers() if c.state == 1]


async def test_a_running_pod_that_somebody_ends_in_the_api_stops_by_its_grace_period(harness: WorkerHarness) -> None:
    main = container("main", "trap 'sleep 1; exit 3' TERM; echo up; while true; do sleep 0.1; done")
    item = pod(main)
    harness.send(item)
    await harness.wait_for(is_running)
    await harness.wait_log("up")
    harness.send({**item, "status": {"phase": "Failed", "reason": "Odd", "message": "said so"}})
    status = await harness.wait_finished()
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Odd", "said so")
    assert status_of(status, "main")["state"]["terminated"]["exitCode"] == 3
    assert not [c for c in await harness.runtime.list_containers() if c.state == 1]


async def test_on_failure_restarts_until_success(harness: WorkerHarness) -> None:
    volume = {"name": "v", "mountPath": "/v"}
    script = "if [ -e /v/again ]; then exit 0; fi; touch /v/again; exit 1"
    harness.send(
        pod(
            container("main", script, volumeMounts=[volume]),
            volumes=[{"name": "v", "emptyDir": {}}],
            restartPolicy="OnFailure",
        )
    )
    status = await harness.wait_finished()
    assert status["phase"] == "Succeeded"
    assert status_of(status, "main")["restartCount"] == 1


async def test_the_log_is_the_message_when_the_policy_falls_back(harness: WorkerHarness) -> None:
    main = container("main", "echo oops; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    harness.send(pod(main, restartPolicy="Never"))
    status = await harness.wait_finished()
    assert status_of(status, "main")["state"]["terminated"]["message"] == "oops\n"


async def test_deletion_stops_gracefully_and_finishes(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT)))
    await harness.wait_log("up")
    await harness.wait_for(is_running)
    harness.delete()
    status = await harness.wait_finished()
    assert status["phase"] == "Succeeded"
    assert status_of(status, "main")["state"]["terminated"]["exitCode"] == 0
    assert (await harness.wait_event("Killing"))["message"] == "Stopping container main"
    assert not (harness.directory / "kubelet" / "pods").exists()
    assert harness.outbox.statuses[-2][1] is False and harness.outbox.statuses[-2][0]["phase"] == "Succeeded"


async def test_a_pre_stop_hook_runs_before_the_signal(harness: WorkerHarness) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    harness.send(pod(container("main", "trap 'echo term; exit 0' TERM; echo up; sleep 1000 & wait", lifecycle=hook)))
    await harness.wait_log("up")
    harness.delete()
    await harness.wait_finished()
    assert harness.log().splitlines() == ["up", "hook", "term"]


async def test_a_shorter_grace_period_interrupts_the_longer_one(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", "trap '' TERM; echo up; while true; do sleep 0.1; done")))
    await harness.wait_log("up")
    harness.delete(60)
    await harness.wait_event("Killing")
    await asyncio.sleep(0.3)
    started = time.monotonic()
    harness.delete(1)
    status = await harness.wait_finished()
    assert time.monotonic() - started < 5
    assert status_of(status, "main")["state"]["terminated"]["exitCode"] == 137
    assert status["phase"] == "Failed"


async def test_sidecars_end_after_the_others_in_reverse_order(harness: WorkerHarness) -> None:
    volume = {"name": "v", "mountPath": "/v"}

    def logging_end(name: str) -> str:
        return f"trap 'sleep 0.2; echo {name} >> /v/ends; exit 0' TERM; echo up; sleep 1000 & wait"

    sidecars = [
        container(name, logging_end(name), restartPolicy="Always", volumeMounts=[volume])
        for name in ("zero", "one", "two")
    ]
    main = container("main", logging_end("main"), volumeMounts=[volume])
    harness.send(pod(main, initContainers=sidecars, volumes=[{"name": "v", "emptyDir": {}}]))
    for name in ("zero", "one", "two", "main"):
        await harness.wait_log("up", name)
    kubelet = harness.directory / "kubelet"
    harness.delete()
    ends = ""
    async with asyncio.timeout(30):
        while ends.split() != ["main", "two", "one", "zero"]:
            found = list(kubelet.glob("pods/*/volumes/kubernetes.io~empty-dir/v/ends"))
            ends = found[0].read_text() if found else ends
            await asyncio.sleep(0.02)
    await harness.wait_finished()


async def test_readiness_follows_the_probe(harness: WorkerHarness) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "timeoutSeconds": 1}
    main = container("main", "sleep 1.2; touch /tmp/ready; sleep 1000", readinessProbe=probe)
    harness.send(pod(main))
    status = await harness.wait_for(is_running)
    assert not is_ready(status)
    status = await harness.wait_for(is_ready)
    assert status_of(status, "main")["ready"]
    assert (await harness.wait_event("Unhealthy"))["message"].startswith("Readiness probe failed: ")


async def test_a_failing_liveness_probe_restarts_the_container(harness: WorkerHarness) -> None:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 1}
    harness.send(pod(container("main", OBEDIENT, livenessProbe=probe)))
    status = await harness.wait_for(lambda s: status_of(s, "main")["restartCount"] == 1)
    assert status_of(status, "main")["lastState"]["terminated"]["exitCode"] == 0
    unhealthy = await harness.wait_event("Unhealthy")
    address = f"{harness.facts.pod_ip}:8080"
    refused = f'Get "http://{address}/": dial tcp {address}: connect: connection refused'
    assert unhealthy["message"] == f"Liveness probe failed: {refused}"
    killing = await harness.wait_event("Killing")
    assert killing["message"] == "Container main failed liveness probe, will be restarted"


@pytest.mark.parametrize(("policy", "cause"), [("OnFailure", "liveness"), ("Never", "image"), ("OnFailure", "image")])
async def test_the_end_of_a_container_that_the_agent_restarts_is_told_with_its_next_start(
    harness: WorkerHarness, policy: str, cause: str
) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    volume = {"name": "v", "mountPath": "/v"}
    script = f"[ -e /v/f ] && touch /tmp/up; touch /v/f; {OBEDIENT}"
    fields = {"livenessProbe": probe} if cause == "liveness" else {}
    main = container("main", script, volumeMounts=[volume], **fields)
    harness.send(pod(main, restartPolicy=policy, volumes=[{"name": "v", "emptyDir": {}}]))
    await harness.wait_for(is_running)
    if cause == "image":
        await harness.wait_log("up")
        changed = {**harness.pod["spec"]["containers"][0], "image": "busybox:latest"}
        harness.send({**harness.pod, "spec": {**harness.pod["spec"], "containers": [changed]}})
    status = await harness.wait_for(lambda s: status_of(s, "main")["restartCount"] == 1)
    assert "running" in status_of(status, "main")["state"] and is_ready(status)
    assert status_of(status, "main")["lastState"]["terminated"]["exitCode"] == 0
    told = [status_of(each, "main")["state"] for each, _ in harness.outbox.statuses]
    assert not [state for state in told if "terminated" in state]


async def test_the_log_of_a_sidecars_life_before_outlives_the_restarts_of_others(harness: WorkerHarness) -> None:
    volume = {"name": "v", "mountPath": "/v"}
    script = f"[ -e /v/f ] && {{ {OBEDIENT}; }}; touch /v/f; echo first; exit 3"
    side = container("side", script, restartPolicy="Always", volumeMounts=[volume])
    main = container("main", "sleep 1; exit 1")
    harness.send(pod(main, initContainers=[side], volumes=[{"name": "v", "emptyDir": {}}]))
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["restartCount"] == 1 and status_of(s, "side")["restartCount"] == 1
    )
    await harness.wait_for(lambda s: "running" not in status_of(s, "main")["state"])
    previous = status_of(status, "side")["lastState"]["terminated"]["containerID"].removeprefix("containerd://")
    path = harness.worker.log_path(previous)
    assert path is not None
    assert harness.log("side") == "first"


async def test_a_startup_probe_gates_readiness(harness: WorkerHarness) -> None:
    started = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 30}
    ready = {"tcpSocket": {"port": 9000}, "periodSeconds": 1}
    script = "while true; do nc -l -p 9000 < /dev/null; done & sleep 1; touch /tmp/up; sleep 1000"
    harness.send(pod(container("main", script, startupProbe=started, readinessProbe=ready)))
    status = await harness.wait_for(is_running)
    assert status_of(status, "main")["started"] is False
    status = await harness.wait_for(lambda s: status_of(s, "main")["ready"])
    assert status_of(status, "main")["started"] is True


async def test_the_active_deadline_fails_the_pod(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT), activeDeadlineSeconds=1))
    status = await harness.wait_finished()
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"


async def test_a_stop_message_evicts_the_pod(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT)))
    await harness.wait_log("up")
    harness.worker.update({"type": "stop", "gracePeriodSeconds": 1, "reason": "Evicted", "message": "too big"})
    status = await harness.wait_finished()
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "too big")


async def test_deletion_during_a_post_start_hook_does_not_wait_for_it(harness: WorkerHarness) -> None:
    hook = {"postStart": {"exec": {"command": ["sleep", "1000"]}}}
    harness.send(pod(container("main", OBEDIENT, lifecycle=hook)))
    await harness.wait_event("Started")
    harness.delete(2)
    status = await harness.wait_finished()
    assert "terminated" in status_of(status, "main")["state"]


async def test_a_changed_image_replaces_the_container(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT)))
    first = status_of(await harness.wait_for(is_running), "main")["containerID"]
    changed = {**harness.pod["spec"]["containers"][0], "image": "busybox:latest"}
    harness.send({**harness.pod, "spec": {**harness.pod["spec"], "containers": [changed]}})
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["restartCount"] == 1 and "running" in status_of(s, "main")["state"]
    )
    assert status_of(status, "main")["containerID"] != first
    killing = await harness.wait_event("Killing")
    assert killing["message"] == "Container main definition changed, will be restarted"


async def test_a_restarted_agent_takes_the_pod_over_without_touching_it(harness: WorkerHarness) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    harness.send(pod(container("main", OBEDIENT, readinessProbe=probe)))
    before = await harness.wait_for(is_ready)
    await harness.kill()
    harness.begin()
    await harness.wait_observed()
    after = await harness.wait_for(is_running)
    assert status_of(after, "main") == status_of(before, "main")
    assert all(is_ready(status) for status, _ in harness.outbox.statuses)
    # The status came out of the journal; the runtime may not have answered yet.
    await harness.wait_until(lambda: harness.worker.container_id("main"))
    assert harness.worker.container_id("main") == status_of(after, "main")["containerID"].removeprefix("containerd://")
    harness.send(harness.pod)
    harness.delete(1)
    await harness.wait_finished()


async def test_an_end_is_told_again_after_a_restart(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", "exit 0"), restartPolicy="Never"))
    before = await harness.wait_finished()
    await harness.kill()
    harness.begin()
    after = await harness.wait_finished()
    await harness.wait_observed()
    assert after == before
    assert len(harness.outbox.statuses) == 1


async def test_a_lost_sandbox_is_made_anew(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT), initContainers=[container("init", "exit 0")]))
    await harness.wait_for(is_running)
    await harness.wait_log("up")
    info = await harness.runtime.pod_sandbox_info(harness.worker.sandbox_id)
    os.kill(info["pid"], signal.SIGKILL)
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["restartCount"] == 1 and "running" in status_of(s, "main")["state"], 15
    )
    assert status["phase"] == "Running"
    assert "SandboxChanged" in harness.outbox.reasons()


async def test_restart_all_containers_runs_init_containers_again(harness: WorkerHarness) -> None:
    volume = {"name": "v", "mountPath": "/v"}
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    main = container(
        "main",
        "[ $(wc -l < /v/inits) = 1 ] && exit 42; " + OBEDIENT,
        volumeMounts=[volume],
        restartPolicy="Never",
        restartPolicyRules=[rule],
    )
    init = container("init", "echo ran >> /v/inits", volumeMounts=[volume])
    volumes = [{"name": "v", "emptyDir": {}}]
    harness.send(pod(main, container("other", OBEDIENT), initContainers=[init], restartPolicy="Never", volumes=volumes))
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["restartCount"] == 1 and "running" in status_of(s, "main")["state"], 15
    )
    assert status_of(status, "other")["restartCount"] == 1
    ended = status_of(status, "main")["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("RestartingAllContainers", 137)


async def test_resources_are_resized_in_place(harness: WorkerHarness) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    harness.send(pod(container("main", OBEDIENT, resources=resources)))
    first = status_of(await harness.wait_for(is_running), "main")
    bigger = {"requests": {"cpu": "200m", "memory": "32Mi"}, "limits": {"cpu": "400m", "memory": "128Mi"}}
    changed = {**harness.pod["spec"]["containers"][0], "resources": bigger}
    metadata = {**harness.pod["metadata"], "generation": 2}
    harness.send({**harness.pod, "metadata": metadata, "spec": {**harness.pod["spec"], "containers": [changed]}})
    await harness.wait_event("ResizeCompleted")
    status = await harness.wait_for(
        lambda s: (
            status_of(s, "main")["resources"] == bigger
            and not [c for c in s["conditions"] if c["type"].startswith("PodResize")]
        )
    )
    assert status_of(status, "main")["containerID"] == first["containerID"]
    assert status_of(status, "main")["allocatedResources"] == bigger["requests"]
    assert harness.outbox.reasons()[-2:] == ["ResizeStarted", "ResizeCompleted"]


async def test_no_status_of_a_new_generation_hides_a_resize_that_restarts(harness: WorkerHarness) -> None:
    small, bigger = {"requests": {"memory": "32Mi"}}, {"requests": {"memory": "48Mi"}}
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    harness.send(pod(container("main", OBEDIENT, resources=small, resizePolicy=policy)))
    first = status_of(await harness.wait_for(is_running), "main")
    changed = {**harness.pod["spec"]["containers"][0], "resources": bigger}
    metadata = {**harness.pod["metadata"], "generation": 2}
    harness.send({**harness.pod, "metadata": metadata, "spec": {**harness.pod["spec"], "containers": [changed]}})

    def is_resizing(status: Json) -> bool:
        return any(condition["type"] == "PodResizeInProgress" for condition in status["conditions"])

    await harness.wait_for(
        lambda s: (
            is_running(s)
            and status_of(s, "main")["restartCount"] == 1
            and not is_resizing(s)
            and status_of(s, "main")["resources"] == bigger
        )
    )
    early = [
        s
        for s, _ in harness.outbox.statuses
        if s["observedGeneration"] == 2
        and status_of(s, "main").get("containerID") == first["containerID"]
        and "running" in status_of(s, "main")["state"]
    ]
    assert early and all(is_resizing(status) for status in early)


async def test_memory_that_is_in_use_is_not_taken_away(harness: WorkerHarness) -> None:
    wide, narrow = {"limits": {"memory": "64Mi"}}, {"limits": {"memory": "10Ki"}}
    harness.send(pod(container("main", OBEDIENT, resources=wide)))
    first = status_of(await harness.wait_for(is_running), "main")
    changed = {**harness.pod["spec"]["containers"][0], "resources": narrow}
    harness.send({**harness.pod, "spec": {**harness.pod["spec"], "containers": [changed]}})
    event = await harness.wait_event("ResizeError")
    assert "memory limit (10240) below current usage" in event["message"]
    status = await harness.wait_for(lambda s: [c for c in s["conditions"] if c.get("reason") == "Error"])
    assert status_of(status, "main")["resources"] == wide
    assert (status_of(status, "main")["containerID"], is_running(status)) == (first["containerID"], True)


async def test_a_resize_beyond_the_instance_is_infeasible(harness: WorkerHarness) -> None:
    resources = {"requests": {"memory": "32Mi"}}
    harness.send(pod(container("main", OBEDIENT, resources=resources)))
    await harness.wait_for(is_running)
    changed = {**harness.pod["spec"]["containers"][0], "resources": {"requests": {"memory": "8Gi"}}}
    harness.send({**harness.pod, "spec": {**harness.pod["spec"], "containers": [changed]}})
    await harness.wait_event("ResizeInfeasible")
    status = await harness.wait_for(lambda s: [c for c in s["conditions"] if c["type"] == "PodResizePending"])
    assert status_of(status, "main")["allocatedResources"] == {"memory": "32Mi"}


async def test_an_update_of_a_config_map_reaches_the_volume(harness: WorkerHarness) -> None:
    wanted = pod(
        container("main", "while sleep 0.05; do cat /c/key; done", volumeMounts=[{"name": "c", "mountPath": "/c"}]),
        volumes=[{"name": "c", "configMap": {"name": "cm", "defaultMode": 420}}],
    )
    harness.send(wanted, {"configMaps": {"cm": {"data": {"key": "old\n"}}}})
    await harness.wait_for(is_running)
    harness.worker.update({"type": "references", "references": {"configMaps": {"cm": {"data": {"key": "new\n"}}}}})
    await harness.wait_log("new")
