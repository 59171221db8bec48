"""What an idle instance does beforehand, on a real containerd: nothing is left of it, and no pod is in its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.agent.worker_harness import WorkerHarness, is_running, make_harness, pod
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker import rehearsal
from vk_provider.agent.worker.rehearsal import Rehearsal

pytestmark = pytest.mark.real


@pytest.fixture
async def harness(
    runtime: ContainerRuntime, containerd: PrivateContainerd, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkerHarness]:
    monkeypatch.setattr(rehearsal, "IDLE_S", 0.1)
    async for each in make_harness(runtime, containerd):
        await each.kill()
        yield each


def begin(harness: WorkerHarness, runtime: ContainerRuntime, *, is_connected: bool = True) -> None:
    """The worker, as the agent runs it."""
    meanwhile = Rehearsal(runtime, harness.directory / "state", lambda: is_connected)
    harness._task = asyncio.create_task(harness.worker.run(meanwhile))


async def wait_started(harness: WorkerHarness) -> None:
    await harness.wait_until((harness.directory / "state" / "rehearsal").exists)


async def test_after_a_rehearsal_nothing_is_left_and_a_pod_has_its_address(
    harness: WorkerHarness, runtime: ContainerRuntime
) -> None:
    begin(harness, runtime)
    await wait_started(harness)
    await harness.wait_until(lambda: not (harness.directory / "state" / "rehearsal").exists(), 30.0)
    assert await runtime.list_pod_sandboxes() == [] and await runtime.list_containers() == []
    assert list((harness.directory / "state").iterdir()) == []
    harness.send(pod())
    status = await harness.wait_for(is_running, 30.0)
    assert status["podIP"] == harness.facts.pod_ip
    assert harness.outbox.reasons() == ["Pulled", "Created", "Started"]


async def test_a_pod_that_comes_in_the_midst_of_it_runs_all_the_same(
    harness: WorkerHarness, runtime: ContainerRuntime
) -> None:
    begin(harness, runtime)
    await wait_started(harness)
    harness.send(pod())
    status = await harness.wait_for(is_running, 30.0)
    assert status["podIP"] == harness.facts.pod_ip and len(await runtime.list_pod_sandboxes()) == 1
    assert "FailedCreatePodSandBox" not in harness.outbox.reasons()


async def test_what_a_killed_agent_has_left_is_taken_away_before_the_pod(
    harness: WorkerHarness, runtime: ContainerRuntime
) -> None:
    begin(harness, runtime)
    await wait_started(harness)
    async with asyncio.timeout(30):
        while not await runtime.list_pod_sandboxes():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    await harness.kill()
    assert (harness.directory / "state" / "rehearsal").exists()
    harness.begin()
    await harness.kill()
    begin(harness, runtime)
    harness.send(pod())
    status = await harness.wait_for(is_running, 30.0)
    assert status["podIP"] == harness.facts.pod_ip and len(await runtime.list_pod_sandboxes()) == 1


async def test_an_instance_that_nobody_is_connected_to_does_not_rehearse(
    harness: WorkerHarness, runtime: ContainerRuntime
) -> None:
    begin(harness, runtime, is_connected=False)
    await asyncio.sleep(0.5)
    assert await runtime.list_pod_sandboxes() == [] and not (harness.directory / "state").exists()
