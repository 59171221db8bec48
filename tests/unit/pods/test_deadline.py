"""activeDeadlineSeconds counts from the pod's start time, also while there is no agent that could see to it."""

from __future__ import annotations

import time
from typing import Any

from tests.unit.pods.rig import World
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord


async def booting(world: World, **spec: Any) -> tuple[Json, PodRecord]:
    """A pod with a deadline whose instance does not answer."""
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod(activeDeadlineSeconds=50, **spec))
    await world.until(lambda: world.live_of(pod))
    record = world.record(pod)
    assert record is not None
    return pod, record


async def test_a_pod_whose_deadline_passes_before_its_agent_answers_fails_and_costs_nothing_more(world: World) -> None:
    pod, record = await booting(world)
    record.active_since = time.monotonic() - 49.9
    world.controller.wake(record.uid)  # the timer of the record wakes it again
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed" and not world.live())
    status = world.api.status(pod)
    assert (status["reason"], status["message"]) == (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    )
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    ready = {each["type"]: each["status"] for each in status["conditions"]}
    assert (ready["Ready"], ready["ContainersReady"], ready["PodScheduled"]) == ("False", "False", "True")
    await world.settle()
    assert world.recorder.reasons().count("DeadlineExceeded") == 1
    assert "FailedLogArchive" not in world.recorder.reasons()


async def test_a_deadline_that_the_api_changes_counts_at_once(world: World) -> None:
    pod, record = await booting(world)
    record.active_since = time.monotonic() - 20
    world.controller.wake(record.uid)
    await world.settle()
    assert world.api.status(pod)["phase"] == "Pending"
    record.pod = {**record.pod, "spec": {**record.pod["spec"], "activeDeadlineSeconds": 10}}
    world.controller.wake(record.uid)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")


async def test_the_deadline_of_a_pod_that_an_agent_has_is_the_agents_business(world: World) -> None:
    pod = await world.running(activeDeadlineSeconds=50)
    record = world.record(pod)
    assert record is not None
    record.active_since = time.monotonic() - 60
    world.controller.wake(record.uid)
    await world.settle()
    assert world.api.status(pod)["phase"] == "Running" and world.live_of(pod)


async def test_a_start_time_that_an_earlier_process_has_published_counts_before_anything_is_launched(
    world: World,
) -> None:
    pod = world.pod(activeDeadlineSeconds=50)
    pod["status"]["startTime"] = "2026-01-01T00:00:00Z"
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert world.api.status(pod)["startTime"] == "2026-01-01T00:00:00Z"
    await world.settle()
    assert "InstanceLaunched" not in world.recorder.reasons() and not world.live()


async def test_an_instance_that_an_earlier_process_may_have_given_the_pod_is_asked_first(world: World) -> None:
    pod, _ = await booting(world)
    await world.crash()
    world.api.set_status(pod, startTime="2026-01-01T00:00:00Z")
    await world.start()
    await world.settle()
    assert world.api.status(pod)["phase"] == "Pending" and world.live_of(pod)


async def test_a_rejected_pod_fails_once_more_at_its_deadline(world: World) -> None:
    """getPodsToSync: a kubelet's pod worker sees it then for the first time, and only once."""
    containers = [{"name": "c", "resources": {"requests": {"cpu": "101"}}}]
    pod = world.api.add(world.pod(containers=containers, activeDeadlineSeconds=50))
    await world.until(lambda: world.api.status(pod).get("reason") == "OutOfcpu")
    record = world.record(pod)
    assert record is not None
    await world.settle()
    assert "containerStatuses" not in world.api.status(pod)
    record.active_since = time.monotonic() - 49.9
    world.controller.wake(record.uid)  # the timer of the record wakes it again
    await world.until(lambda: world.api.status(pod)["reason"] == "DeadlineExceeded")
    world.controller.wake(record.uid)
    await world.settle()
    status = world.api.status(pod)
    assert (status["phase"], status["message"]) == (
        "Failed",
        "Pod was active on the node longer than the specified deadline",
    )
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    reasons = world.recorder.reasons()
    assert (reasons.count("OutOfcpu"), reasons.count("DeadlineExceeded")) == (1, 1)
