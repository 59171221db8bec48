"""A running pod over time: storage limits, log rotation, restarts of containerd, shared namespaces, limits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.agent.worker_harness import WorkerHarness, container, is_running, make_harness, pod, status_of
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker import monitor
from vk_provider.agent.worker.container import logrotation

pytestmark = pytest.mark.real


@pytest.fixture
async def harness(
    runtime: ContainerRuntime, containerd: PrivateContainerd, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkerHarness]:
    monkeypatch.setattr(monitor, "PERIOD_S", 0.1)
    monkeypatch.setattr(logrotation, "MAX_BYTES", 20_000)
    async for each in make_harness(runtime, containerd):
        yield each


async def test_an_empty_dir_beyond_its_limit_evicts_the_pod(harness: WorkerHarness) -> None:
    volume = {"name": "cache", "mountPath": "/cache"}
    main = container("main", "head -c 2000000 /dev/zero > /cache/big; sleep 1000", volumeMounts=[volume])
    harness.send(pod(main, volumes=[{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]))
    status = await harness.wait_finished()
    message = 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", message)
    assert (await harness.wait_event("Evicted"))["message"] == message


async def test_a_container_beyond_its_ephemeral_storage_is_evicted(harness: WorkerHarness) -> None:
    limits = {"limits": {"ephemeral-storage": "1Mi"}, "requests": {"ephemeral-storage": "1Mi"}}
    main = container("main", "head -c 3000000 /dev/zero > /tmp/big; sleep 1000", resources=limits)
    harness.send(pod(main))
    status = await harness.wait_finished(30)
    assert status["reason"] == "Evicted"


async def test_a_big_log_is_rotated_and_goes_on(harness: WorkerHarness) -> None:
    harness.send(pod(container("main", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.001; done")))
    await harness.wait_for(is_running)
    path = harness.worker.log_path(harness.worker.container_id("main"))
    assert path is not None

    def rotated() -> list[str]:
        return sorted(entry.name for entry in Path(path).parent.iterdir() if entry.name.startswith("0.log."))

    async with asyncio.timeout(30):
        while True:
            if len(rotated()) >= 2:
                break
            await asyncio.sleep(0.05)
    assert any(name.endswith(".gz") for name in rotated())
    await harness.wait_log("line")


async def test_a_container_survives_a_crash_of_containerd(
    harness: WorkerHarness, containerd: PrivateContainerd
) -> None:
    harness.send(pod(container("main", "trap 'exit 3' TERM; echo up; sleep 1000 & wait")))
    await harness.wait_log("up")
    before = status_of(await harness.wait_for(is_running), "main")
    info = await harness.runtime.container_info(harness.worker.container_id("main"))
    containerd.kill()
    containerd.launch()
    await harness.runtime.wait_ready(30)  # a process that ends before containerd knows it again is never seen to end
    assert status_of(harness.worker.status, "main") == before
    os.kill(info["pid"], signal.SIGTERM)
    status = await harness.wait_for(
        lambda s: status_of(s, "main")["restartCount"] == 1 and "running" in status_of(s, "main")["state"], 20
    )
    assert status_of(status, "main")["lastState"]["terminated"]["exitCode"] == 3


async def test_containers_share_their_process_namespace_when_asked_to(harness: WorkerHarness) -> None:
    see = container("see", "grep -q pause /proc/1/cmdline && echo shared; sleep 1000")
    harness.send(pod(container("main"), see, shareProcessNamespace=True))
    await harness.wait_log("shared", "see")


async def test_a_host_network_pod_has_the_instances_address(harness: WorkerHarness) -> None:
    harness.send(pod(hostNetwork=True, dnsPolicy="Default"))
    status = await harness.wait_for(is_running)
    assert status["podIP"] == status["hostIP"] == harness.facts.primary_ip


async def test_a_memory_limit_kills_with_the_kubelets_reason(harness: WorkerHarness) -> None:
    limits = {"limits": {"memory": "24Mi"}, "requests": {"memory": "24Mi"}}
    main = container("main", "x=a; while true; do x=$x$x; done", resources=limits)
    harness.send(pod(main, restartPolicy="Never"))
    status = await harness.wait_finished(30)
    ended = status_of(status, "main")["state"]["terminated"]
    assert ended["exitCode"] == 137 and ended["reason"] == "OOMKilled"
