"""A status that the API server does not take: told, reduced, and no reason to pay for a finished instance for ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.pods import controller, state, status_publisher

from .rig import NODE, World


def refuse_containers(status: Json) -> KubeApiError | None:
    if "containerStatuses" in status:
        return KubeApiError(422, "Invalid", "status.containerStatuses: Forbidden")
    return None


async def test_a_final_status_that_is_refused_is_told_without_what_was_refused(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.api.refuse = refuse_containers
    world.connector.end_pod(world.live_of(pod)[0].instance_id, exit_code=3)
    await world.until(lambda: not world.live())
    assert world.api.status(pod)["phase"] == "Failed"
    told = [message for reason, message in world.recorder.events if reason == "FailedStatusUpdate"]
    assert len(told) == 1 and "containerStatuses" in told[0]


async def test_a_status_for_a_pod_whose_name_another_one_has_is_no_fault_of_the_status(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    instance_id = world.live_of(pod)[0].instance_id
    # Its deletion has not been seen yet.
    successor = {**world.pod(), "metadata": {**pod["metadata"], "uid": "another"}}
    world.api.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])] = successor
    world.connector.end_pod(instance_id, exit_code=3)
    await world.until(lambda: not world.live())
    assert successor["status"] == {"phase": "Pending"}
    assert "FailedStatusUpdate" not in world.recorder.reasons()


async def test_a_final_status_of_which_everything_is_refused_ends_the_instance_all_the_same(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.api.refuse = lambda status: KubeApiError(422, "Invalid", "no")
    world.connector.end_pod(world.live_of(pod)[0].instance_id)
    await world.until(lambda: not world.live())
    assert "FailedStatusUpdate" in world.recorder.reasons()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=7200.0)
    made.monotonic = lambda: made.now
    made.time = lambda: 1_800_000_000.0 + made.now
    monkeypatch.setattr(controller, "time", made)
    monkeypatch.setattr(status_publisher, "time", made)
    return made


async def test_a_final_status_that_is_not_accepted_for_long_ends_the_instance_and_is_told(
    world: World, clock: SimpleNamespace
) -> None:
    pod = await world.running(restartPolicy="Never")
    record = world.record(pod)
    assert record is not None
    world.api.refuse = lambda status: KubeApiError(403, "Forbidden", "pods/status is forbidden")
    world.connector.end_pod(world.live_of(pod)[0].instance_id)
    await world.until(lambda: record.publication.unaccepted_since)
    clock.now += state.UNACCEPTED_LIMIT_S - 1
    world.controller.wake(record.uid)
    await world.settle()
    assert world.live() and "FailedStatusUpdate" not in world.recorder.reasons()
    clock.now += 2
    world.controller.wake(record.uid)
    await world.until(lambda: not world.live() and "FailedStatusUpdate" in world.recorder.reasons())
    world.controller.wake(record.uid)
    await world.settle()
    assert world.recorder.reasons().count("FailedStatusUpdate") == 1
    assert not world.controller.executor.gate.usage[NODE], "it needs no room on its Node any more"
    world.api.refuse = lambda status: None
    world.controller.wake(record.uid)
    await world.until(lambda: world.api.status(pod)["phase"] == "Succeeded")
    assert not record.publication.unaccepted_since


async def test_an_outage_of_the_api_server_counts_for_nothing(world: World, clock: SimpleNamespace) -> None:
    pod = await world.running(restartPolicy="Never")
    record = world.record(pod)
    assert record is not None
    world.api.down = True
    world.connector.end_pod(world.live_of(pod)[0].instance_id)
    await world.until(lambda: record.report.finished)
    await world.settle()
    clock.now += 10 * state.UNACCEPTED_LIMIT_S
    world.controller.wake(record.uid)
    await world.settle()
    assert world.live_of(pod) and not record.publication.unaccepted_since
    world.api.down = False
