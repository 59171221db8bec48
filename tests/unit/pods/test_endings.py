"""A terminal phase in the API is no word on the containers: as long as there is an agent, it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.instances import links, table
from vk_provider.jsontypes import Json
from vk_provider.pods import state

from .rig import World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)


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
    await world.until(lambda: record.owned is not None and record.owned.link.task is not None)
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
    await world.until(lambda: (found := world.record(pod)) is not None and found.report.silent_since)
    await world.settle()
    assert world.api.pods and world.live()
    record = world.record(pod)
    assert record is not None
    monkeypatch.setattr(state, "DELETION_OVERDUE_S", -1e6)
    world.controller.wake(record.uid)
    await world.until(lambda: not world.api.pods and not world.live())


async def test_an_agent_that_answers_and_does_not_end_its_deleted_pod_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, or lies."""
    pod = await world.running()
    (instance,) = world.live_of(pod)
    asked = world.connector.stop_slowly(instance.instance_id)
    world.api.mark_deleting(pod)
    await world.until(lambda: asked)
    await world.settle()
    assert world.api.pods and world.live()
    monkeypatch.setattr(state, "DELETION_RESISTED_S", -1e6)
    world.controller.wake(pod["metadata"]["uid"])
    await world.until(lambda: not world.api.pods and not world.live())


async def test_the_time_for_an_end_begins_with_the_deletion(world: World) -> None:
    """Whoever has set a terminal phase long before."""
    pod = await world.running()
    record = world.record(pod)
    assert record is not None
    record.ending_since = 1.0
    world.api.mark_deleting(pod)
    await world.until(lambda: record.ending_since > 1.0)


async def test_a_pod_that_runs_although_the_api_never_heard_of_it_is_asked_before_it_ends(world: World) -> None:
    world.api.down = True
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.report.from_agent)
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


MANUAL: dict[str, str] = {"phase": "Failed", "reason": "Odd", "message": "somebody said so"}


def phase_of(world: World, pod: Json) -> tuple[str | None, ...]:
    status = world.api.status(pod)
    return status.get("phase"), status.get("reason"), status.get("message")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_terminal_phase_that_others_set_is_put_back_and_the_pod_runs_on(world: World, phase: str) -> None:
    """needsReconcile; HandlePodReconcile does not tell the pod worker."""
    pod = await world.running()
    await world.settle()
    instance_id = world.live_of(pod)[0].instance_id
    asked, sent = world.connector.stop_slowly(instance_id), world.connector.listen(instance_id)
    world.api.set_status(pod, **{**MANUAL, "phase": phase})
    await world.until(lambda: phase_of(world, pod) == ("Running", None, None))
    await world.settle()
    assert not asked and not sent
    assert world.live_of(pod)
    assert world.api.status(pod)["containerStatuses"][0]["ready"]
    record = world.record(pod)
    assert record is not None and record.phase == "Running" and not record.ending_since


async def test_a_pod_that_is_sent_to_its_agent_while_others_say_it_has_ended_runs_on(world: World) -> None:
    pod = await world.running()
    await world.settle()
    instance_id = world.live_of(pod)[0].instance_id
    asked, sent = world.connector.stop_slowly(instance_id), world.connector.listen(instance_id)
    world.api.refuse = lambda status: KubeApiError(500, "InternalError", "not now")
    world.api.pods[("default", pod["metadata"]["name"])]["metadata"]["labels"] = {"a": "b"}
    world.api.set_status(pod, **MANUAL)
    await world.until(lambda: sent)
    assert sent[0]["pod"]["metadata"]["labels"] == {"a": "b"}
    assert (sent[0]["pod"]["status"]["phase"], sent[0]["pod"]["status"].get("reason")) == ("Running", None)
    assert not asked
    world.api.refuse = lambda status: None


async def test_an_ended_pod_that_others_set_back_stays_as_it_ended(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.connector.end_pod(world.live_of(pod)[0].instance_id, exit_code=3)
    await world.until(lambda: not world.live())
    await world.settle()
    for phase in ("Running", "Succeeded"):
        world.api.set_status(pod, phase=phase)
        record = world.record(pod)
        assert record is not None
        record.publication.restored_at = 0.0
        await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
        await world.settle()
    assert not world.live()


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_had_ended_before_the_provider_started_is_stopped(world: World, phase: str) -> None:
    """UpdatePod of the kubelet's pod workers: the first that is seen of the pod is a terminal phase."""
    pod = await world.running()
    instance_id = world.live_of(pod)[0].instance_id
    await world.crash()
    world.api.set_status(pod, **{**MANUAL, "phase": phase})
    asked = world.connector.stop_slowly(instance_id)
    await world.start()
    await world.until(lambda: asked)
    await world.settle()
    assert world.live() and len(asked) == 1
    world.api.set_status(pod, phase="Running", reason=None)
    await world.until(lambda: phase_of(world, pod) == (phase, MANUAL["reason"], MANUAL["message"]))
    world.connector.end_pod(instance_id)
    await world.until(lambda: not world.live())
    await world.settle()
    assert phase_of(world, pod) == (phase, MANUAL["reason"], MANUAL["message"])
    assert "terminated" in world.api.status(pod)["containerStatuses"][0]["state"]
    assert world.archive.path(pod["metadata"]["uid"], "c", False) is not None


async def test_what_is_seen_before_the_adoption_counts_as_seen_first(world: World) -> None:
    pod = await world.running()
    asked = world.connector.stop_slowly(world.live_of(pod)[0].instance_id)
    await world.crash()
    instances = await world.start(adopt=False)
    world.api.set_status(pod, **MANUAL)
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.first.ended)
    world.controller.adopt(instances)
    await world.until(lambda: asked)
    assert phase_of(world, pod) == tuple(MANUAL.values())


async def test_a_pod_that_had_ended_before_the_provider_started_is_not_started_and_stays_ended(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.connector.end_pod(world.live_of(pod)[0].instance_id)
    await world.until(lambda: not world.live())
    await world.settle()
    await world.crash()
    await world.start()
    await world.settle()
    assert not world.live()
    world.api.set_status(pod, phase="Running")
    await world.until(lambda: world.api.status(pod)["phase"] == "Succeeded")
    await world.settle()
    assert not world.live()


async def test_a_pod_that_others_end_while_its_instance_boots_starts_all_the_same(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    world.api.set_status(pod, **MANUAL)
    await world.until(lambda: phase_of(world, pod) == ("Pending", None, None))
    world.connector.unreachable.clear()
    await world.until(lambda: phase_of(world, pod) == ("Running", None, None))
    assert len(world.live()) == 1


async def test_a_running_pod_whose_status_others_took_away_while_its_agent_was_not_reached_is_stopped_in_its_time(
    world: World,
) -> None:
    """What the API says later is no evidence that nothing has run."""
    pod = await world.running()
    await world.settle()
    instance_id = world.live_of(pod)[0].instance_id
    await world.crash()
    world.connector.unreachable.add("*")
    await world.start()
    await world.settle()
    world.api.set_status(pod, phase="Pending", containerStatuses=[])
    await world.settle()
    world.api.mark_deleting(pod)
    await world.settle()
    assert world.live_of(pod) and world.api.pods
    asked = world.connector.stop_slowly(instance_id)
    world.connector.unreachable.clear()
    await world.until(lambda: asked)
    world.connector.end_pod(instance_id)
    await world.until(lambda: not world.live() and not world.api.pods)


async def test_a_pod_that_has_ended_does_not_run_again_by_the_word_of_its_agent(world: World) -> None:
    """generateAPIPodStatus: no way leads out of a terminal phase."""
    pod = await world.running()
    await world.settle()
    running = world.api.status(pod)
    channel = world.connector._channels[world.live_of(pod)[0].instance_id]
    ended = {**running, "phase": "Failed", "reason": "Odd"}
    for status in (ended, running):
        channel.push([{"type": "status", "podUID": pod["metadata"]["uid"], "status": status, "finished": False}])
    await world.until(lambda: phase_of(world, pod) == ("Failed", "Odd", None))
    await world.settle()
    assert phase_of(world, pod) == ("Failed", "Odd", None)
    ready = next(item for item in world.api.status(pod)["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodFailed")
