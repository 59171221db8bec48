"""A terminal phase in the API is no word on the containers: as long as there is an agent, it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vk_provider.pods import connection, state

from .rig import World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(connection, "UNKNOWN_GRACE_S", 0.0)
    monkeypatch.setattr(connection, "DIAL_MAX_S", 0.05)


async def crash_while_stopping(world: World, pod: dict[str, Any], **status: str) -> tuple[str, list[str]]:
    """The pod is deleted and has a terminal phase already, its containers still run, the provider is killed."""
    instance_id = world.live_of(pod)[0].instance_id
    asked = world.connector.stop_slowly(instance_id)
    world.api.mark_deleting(pod)
    await world.until(lambda: asked)
    await world.crash()
    world.api.set_status(pod, phase="Failed", **status)
    return instance_id, asked


async def test_a_pod_that_is_still_stopping_keeps_its_grace_period_over_a_crash(world: World) -> None:
    pod = await world.running()
    instance_id, asked = await crash_while_stopping(world, pod, reason="Odd", message="somebody said so")
    await world.start()
    await world.until(lambda: len(asked) == 2)
    await world.settle()
    assert world.api.pods and [item.instance_id for item in world.live()] == [instance_id]
    status = world.api.status(pod)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Odd", "somebody said so")
    world.connector.end_pod(instance_id)
    await world.until(lambda: not world.api.pods and not world.live() and world.record(pod) is None)
    assert world.api.history == ["Running"], "a terminal phase is never left"
    assert any("terminated" in str(patch.get("containerStatuses")) for patch in world.api.patches)


async def test_an_instance_that_went_meanwhile_ends_it_at_once(world: World) -> None:
    pod = await world.running()
    instance_id, _ = await crash_while_stopping(world, pod)
    world.cloud.vanish(instance_id)
    await world.start()
    await world.until(lambda: not world.api.pods and world.record(pod) is None)
    assert "InstanceTerminated" not in world.recorder.reasons()


async def test_an_instance_that_goes_before_its_agent_answers_leaves_the_phase_as_it_is(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    instance_id = world.live_of(pod)[0].instance_id
    await world.crash()
    world.connector.unreachable.add(instance_id)
    world.api.set_status(pod, phase="Succeeded")
    await world.start()
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.connection is not None)
    record.lost = f"the cloud does not know instance {instance_id} any more"
    world.controller.wake(record.uid)
    await world.until(lambda: not world.live())
    assert world.api.status(pod)["phase"] == "Succeeded"


async def test_an_agent_that_stays_away_is_waited_for_as_long_as_its_pod_may_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = await world.running()
    instance_id, _ = await crash_while_stopping(world, pod)
    world.connector.unreachable.add(instance_id)
    await world.start()
    await world.until(lambda: (found := world.record(pod)) is not None and found.silent_since)
    await world.settle()
    assert world.api.pods and world.live()
    record = world.record(pod)
    assert record is not None
    monkeypatch.setattr(state, "DELETION_OVERDUE_S", -1e6)
    world.controller.wake(record.uid)
    await world.until(lambda: not world.api.pods and not world.live())


async def test_a_pod_that_runs_although_the_api_never_heard_of_it_is_asked_before_it_ends(world: World) -> None:
    world.api.down = True
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.status_from_agent)
    instance_id = world.live_of(pod)[0].instance_id
    asked = world.connector.stop_slowly(instance_id)
    await world.crash()
    world.api.down = False
    assert world.api.status(pod) == {"phase": "Pending"}
    world.api.mark_deleting(pod)
    world.connector.unreachable.add(instance_id)
    await world.start()
    await world.settle()
    assert world.live_of(pod), "it is not taken for one that never started"
    world.connector.unreachable.clear()
    await world.until(lambda: asked)
    await world.settle()
    assert world.api.pods and world.live_of(pod)
    world.connector.end_pod(instance_id)
    await world.until(lambda: not world.api.pods and not world.live())


async def test_a_booting_pod_that_was_deleted_while_the_provider_was_away_ends_when_its_boot_fails(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "logs")
    await world.start()
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    await world.crash()
    world.api.mark_deleting(pod)
    world.boot_timeout_s = 0.1
    await world.start()
    await world.until(lambda: not world.api.pods and not world.live())
    await world.stop()


async def test_a_running_pod_that_others_end_is_stopped_by_its_agent(world: World) -> None:
    pod = await world.running()
    instance_id = world.live_of(pod)[0].instance_id
    asked = world.connector.stop_slowly(instance_id)
    world.api.set_status(pod, phase="Failed", reason="Odd", message="somebody said so")
    await world.until(lambda: asked)
    await world.settle()
    assert world.live() and len(asked) == 1
    world.connector.end_pod(instance_id)
    await world.until(lambda: not world.live())
    await world.settle()
    status = world.api.status(pod)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Odd", "somebody said so")
    assert "terminated" in status["containerStatuses"][0]["state"]
    assert not any(patch.get("phase") not in (None, "Failed") for patch in world.api.patches[1:])
    assert world.archive.path(pod["metadata"]["uid"], "c", False) is not None


async def test_a_pod_that_others_end_while_its_instance_boots_costs_nothing_any_more(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    world.api.set_status(pod, phase="Failed")
    await world.until(lambda: not world.live())
    await world.settle()
    assert all(len(usage) == 0 for usage in world.controller.executor.usage.values())
    assert "FailedLogArchive" not in world.recorder.reasons()
