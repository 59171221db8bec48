"""Resizes of what is not a regular container, and what a status says of resources, on a real containerd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.agent.worker_harness import (
    WorkerHarness,
    container,
    is_running,
    make_harness,
    pod,
    status_of,
)
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker.sandbox.cgroups import read_pod_config
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import ResourceConfig

pytestmark = pytest.mark.real

OBEDIENT = "trap 'exit 0' TERM; echo up; sleep 1000 & wait"
MI = 1 << 20


@pytest.fixture
async def harness(runtime: ContainerRuntime, containerd: PrivateContainerd) -> AsyncIterator[WorkerHarness]:
    async for each in make_harness(runtime, containerd):
        yield each


def at(cpu: str, memory: str) -> Json:
    return {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": cpu, "memory": memory}}


def resize(harness: WorkerHarness, generation: int = 2, **spec: Any) -> None:
    metadata = {**harness.pod["metadata"], "generation": generation}
    harness.send({**harness.pod, "metadata": metadata, "spec": {**harness.pod["spec"], **spec}})


def is_settled(status: Json) -> bool:
    return not [each for each in status["conditions"] if each["type"].startswith("PodResize")]


def limits_of(harness: WorkerHarness, status: Json, name: str = "") -> tuple[int | None, int | None]:
    """CFS quota and memory limit of the pod's cgroup, or of a container's."""
    parent = f"/kubepods/pod{harness.pod['metadata']['uid']}"
    if name:
        parent += "/" + status_of(status, name)["containerID"].removeprefix("containerd://")
    config = read_pod_config(parent)
    assert config is not None
    return config.cpu_quota, config.memory


async def test_a_pod_level_resize_reaches_the_pod_and_its_containers(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT), resources=at("100m", "64Mi")))
    first = await harness.wait_for(is_running)
    assert first["resources"] == at("100m", "64Mi")
    assert limits_of(harness, first) == limits_of(harness, first, "main") == (10_000, 64 * MI)
    resize(harness, resources=at("200m", "128Mi"))
    await harness.wait_event("ResizeCompleted")
    status = await harness.wait_for(lambda s: is_settled(s) and s["resources"] == at("200m", "128Mi"))
    assert limits_of(harness, status) == limits_of(harness, status, "main") == (20_000, 128 * MI)
    assert status_of(status, "main")["containerID"] == status_of(first, "main")["containerID"]
    assert status["allocatedResources"] == {"cpu": "20m", "memory": "16Mi"}
    resize(harness, 3, resources=at("50m", "32Mi"))
    status = await harness.wait_for(lambda s: is_settled(s) and s["resources"] == at("50m", "32Mi"))
    assert limits_of(harness, status) == limits_of(harness, status, "main") == (5_000, 32 * MI)
    assert harness.outbox.reasons()[-4:] == ["ResizeStarted", "ResizeCompleted"] * 2


async def test_a_resize_at_pod_level_is_carried_out_by_the_agent_that_starts_after_it(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT), resources=at("100m", "64Mi")))
    await harness.wait_for(is_running)
    resize(harness, resources=at("200m", "64Mi"))
    await harness.kill()
    harness.begin()
    resize(harness, resources=at("200m", "64Mi"))
    status = await harness.wait_for(lambda s: is_settled(s) and s["resources"] == at("200m", "64Mi"))
    assert limits_of(harness, status) == limits_of(harness, status, "main") == (20_000, 64 * MI)


async def test_memory_that_the_pod_uses_is_not_taken_from_it(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", OBEDIENT), resources={"limits": {"memory": "64Mi"}}))
    await harness.wait_for(is_running)
    resize(harness, resources={"limits": {"memory": "8Ki"}})
    event = await harness.wait_event("ResizeError")
    assert "attempting to set pod memory limit (8192) below current usage" in event["message"]
    status = await harness.wait_for(lambda s: [c for c in s["conditions"] if c.get("reason") == "Error"])
    assert limits_of(harness, status)[1] == 64 * MI and is_running(status)


async def test_an_init_container_is_resized_while_it_runs(harness: WorkerHarness) -> None:
    def init(cpu: str) -> Json:
        amounts = {"cpu": cpu, "memory": "32Mi"}
        script = "echo up; while [ ! -e /v/go ]; do sleep 0.05; done"
        mount = [{"name": "v", "mountPath": "/v"}]
        return container("init", script, volumeMounts=mount, resources={"requests": amounts, "limits": amounts})

    mount = [{"name": "v", "mountPath": "/v"}]
    go = container("go", "sleep 1000", volumeMounts=mount, restartPolicy="Always")
    harness.send(
        pod(container("main", OBEDIENT), initContainers=[go, init("100m")], volumes=[{"name": "v", "emptyDir": {}}])
    )
    await harness.wait_log("up", "init")
    first = await harness.wait_for(lambda s: "running" in status_of(s, "init")["state"])
    resize(harness, initContainers=[go, init("200m")])
    await harness.wait_event("ResizeCompleted")
    status = await harness.wait_for(lambda s: status_of(s, "init")["resources"]["limits"]["cpu"] == "200m")
    assert limits_of(harness, status, "init") == (20_000, 32 * MI)
    assert status_of(status, "init")["containerID"] == status_of(first, "init")["containerID"]
    assert status_of(status, "init")["restartCount"] == 0
    await harness.runtime.exec_sync(
        status_of(status, "go")["containerID"].removeprefix("containerd://"), ["touch", "/v/go"], 5
    )
    done = await harness.wait_for(is_running)
    assert status_of(done, "init")["state"]["terminated"]["exitCode"] == 0


async def test_a_resize_widens_the_pod_for_a_container_that_is_started_again(harness: WorkerHarness) -> None:
    def sized(memory: str) -> Json:
        amounts = {"cpu": "100m", "memory": memory}
        return container("main", "exit 1", resources={"requests": amounts, "limits": amounts})

    harness.send(pod(sized("32Mi")))
    await harness.wait_for(
        lambda s: (status_of(s, "main")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    )
    resize(harness, containers=[sized("64Mi")])
    await harness.wait_event("ResizeCompleted")
    status = await harness.wait_for(lambda s: is_settled(s) and s["observedGeneration"] == 2)
    assert limits_of(harness, status) == (10_000, 64 * MI)
    assert status_of(status, "main")["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}


async def test_a_status_says_what_the_runtime_gives_a_container(harness: WorkerHarness) -> None:
    """containerd before 1.7 does not report resources: a kubelet takes what it has given, where nothing is 0."""
    tiny = container("tiny", OBEDIENT, resources={"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}})
    none = container("none", OBEDIENT)
    harness.send(pod(tiny, none))
    await harness.wait_for(is_running)
    resize(harness)  # any later status
    status = await harness.wait_for(lambda s: s["observedGeneration"] == 2)
    reported = await harness.runtime.container_status(
        status_of(status, "tiny")["containerID"].removeprefix("containerd://")
    )
    assert reported is not None
    added = {} if reported.HasField("resources") else {"memory": "0"}
    assert status_of(status, "tiny")["resources"] == {
        "requests": {"cpu": "1m", **added},
        "limits": {"cpu": "5m", **added},
    }
    assert status_of(status, "none")["resources"] == {}
    assert status["allocatedResources"] == {"cpu": "1m"}
    assert read_pod_config(f"/kubepods/pod{harness.pod['metadata']['uid']}") == ResourceConfig(2)
