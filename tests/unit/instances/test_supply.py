"""Groups, partial results, who gets which instance, and what becomes of one that nobody needs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.pods.rig import World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.base import (
    TAG_POD_NAME,
    TAG_POD_UID,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    NoticeKind,
    offering_key,
)
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import AgentProtocolError, CloudThrottledError
from vk_provider.instances import calls, ends, interruptions, links, pace, room, table, tagging
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_time
from vk_provider.wire.notices import NoticeMessage


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.05)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.02)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.02)


class Calls:
    """The launch calls of a world. `refuse`: how many of the next are throttled."""

    def __init__(self, world: World) -> None:
        self.requests: list[LaunchRequest] = []
        self.refuse = 0
        self._launch = world.cloud.launch
        world.cloud.launch = self.launch

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        if self.refuse:
            self.refuse -= 1
            raise CloudThrottledError("RequestLimitExceeded: slower")
        self.requests.append(request)
        return await self._launch(request)


def with_room(world: World, pods: int) -> None:
    world.node = {"metadata": {"labels": {}}, "status": {"allocatable": {"cpu": "9999", "pods": str(pods)}}}


def running(world: World, pods: Sequence[Json]) -> int:
    return sum(world.api.status(pod).get("phase") == "Running" for pod in pods)


async def test_a_burst_of_a_thousand_pods_of_one_shape_is_one_call(world: World) -> None:
    with_room(world, 1000)
    calls = Calls(world)
    pods = [world.api.add(world.pod()) for _ in range(1000)]
    await world.until(lambda: len(world.live()) == 1000, 60.0)
    assert [request.count for request in calls.requests] == [1000]
    await world.until(lambda: running(world, pods) == 1000, 120.0)
    served = Counter(agent.uid for agent in world.connector._agents.values())
    assert len(served) == 1000 and set(served.values()) == {1}


async def test_pods_of_different_shape_namespace_or_label_share_no_call_and_labels_of_one_pod_divide_nobody(
    world: World,
) -> None:
    calls = Calls(world)
    pods = [world.pod() for _ in range(8)]
    for pod in pods[2:4]:
        pod["metadata"]["labels"] = {"app": "web"}
    for pod in pods[4:6]:
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"
    for number, pod in enumerate(pods[6:]):
        pod["metadata"]["labels"] = {"app": "db", "apps.kubernetes.io/pod-index": str(number)}
    for pod in pods:
        world.api.add(pod)
    await world.until(lambda: running(world, pods) == 8)
    assert sorted(request.count for request in calls.requests) == [2, 2, 2, 2]
    tags = [request.tags for request in calls.requests]
    assert sorted(str(each.get("pod/app")) for each in tags) == ["None", "None", "db", "web"]
    assert not any("pod/apps.kubernetes.io/pod-index" in each for each in tags)


async def test_a_part_goes_to_the_pods_of_high_priority_and_the_rest_to_the_next_offering(tmp_path: Path) -> None:
    world = World(tmp_path, SimulationConfig(faults=SimulatedFaults(capacity=2)))
    await world.start()
    calls = Calls(world)
    pods = [world.pod(priority=number) for number in range(5)]
    for pod in pods:
        world.api.add(pod)
    await world.until(lambda: running(world, pods) == 5)
    assert len(calls.requests) == 1, "the cloud itself goes on to the next offering"
    by_uid = {agent.uid: agent.instance for agent in world.connector._agents.values()}
    prices = {offering_key(each): each.price_per_hour for each in await world.cloud.describe_offerings()}
    paid = [
        prices[(item.instance_type, item.zone, item.capacity_type)]
        for item in (by_uid[pod["metadata"]["uid"]] for pod in reversed(pods))
    ]
    assert paid == sorted(paid), "who is more important is served first"
    await world.stop()


async def test_what_is_throttled_waits_and_goes_into_one_larger_call(world: World) -> None:
    calls = Calls(world)
    calls.refuse = 2
    first = world.api.add(world.pod())
    await world.until(lambda: calls.refuse == 1)
    more = [world.api.add(world.pod()) for _ in range(9)]
    await world.until(lambda: running(world, [first, *more]) == 10)
    assert [request.count for request in calls.requests] == [10]
    assert "FailedLaunch" not in world.recorder.reasons(), "to wait is no failure of a pod"


async def test_an_account_that_is_full_is_told_on_the_pods_and_served_when_there_is_room(tmp_path: Path) -> None:
    world = World(tmp_path, SimulationConfig(faults=SimulatedFaults(max_instances=2)))
    await world.start()
    pods = [world.api.add(world.pod()) for _ in range(3)]
    await world.until(lambda: running(world, pods) == 2 and "FailedLaunch" in world.recorder.reasons())
    done = next(pod for pod in pods if world.api.status(pod).get("phase") == "Running")
    world.api.mark_deleting(done)
    pods.remove(done)
    await world.until(lambda: running(world, pods) == 2)
    assert len(world.live()) == 2
    await world.stop()


async def test_an_instance_whose_pod_went_before_it_was_used_serves_the_next_one_of_the_group(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connector.unreachable.add("*")
    first = world.api.add(world.pod())
    await world.until(lambda: world.live_of(first))
    (instance,) = world.live()
    original = world.cloud.launch

    async def never(request: Any) -> Any:
        await asyncio.Event().wait()

    world.cloud.launch = never
    second = world.api.add(world.pod())
    await world.until(lambda: (record := world.record(second)) is not None and record.assignment.demand is not None)
    world.api.mark_deleting(first)
    await world.until(lambda: world.record(first) is None)
    assert world.live() == [instance], "it is not ended while somebody waits for one like it"
    record = world.record(second)
    assert record is not None and record.owned is None, "its own agent has to say that it is empty"
    world.connector.unreachable.clear()
    await world.until(lambda: world.api.status(second).get("phase") == "Running")
    assert record.instance is not None and record.instance.instance_id == instance.instance_id
    world.cloud.launch = original


async def test_an_idle_instance_that_nobody_needs_is_ended_after_two_sightings(world: World) -> None:
    world.room.launches.on_launched = lambda brought, call: 0
    pods = [world.api.add(world.pod()) for _ in range(2)]
    await world.until(lambda: len(world.live()) == 2)
    await world.crash()
    for pod in pods:
        del world.api.pods[("default", pod["metadata"]["name"])]
    await world.start()
    await world.until(lambda: [each.said_uid for each in world.room.supply.unclaimed.values()] == ["", ""])
    sweep = make_sweep(world)
    assert await sweep.sweep() == [] and len(world.live()) == 2
    assert len(await sweep.sweep()) == 2 and world.live() == []
    assert world.room.supply.unclaimed == {} and world.room.table.owned == {}


async def test_pods_of_one_call_get_their_tags_later_and_nothing_waits_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "DELAY_S", 0.01)
    pods = [world.api.add(world.pod()) for _ in range(3)]
    await world.until(lambda: all(TAG_POD_UID in instance.tags for instance in world.live()) and world.live())
    for pod in pods:
        (instance,) = world.live_of(pod)
        assert instance.tags[TAG_POD_NAME] == pod["metadata"]["name"]


async def test_tags_wait_while_pods_start_but_not_for_an_instance_that_never_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "DELAY_S", 0.01)
    monkeypatch.setattr(tagging, "QUIET_S", 0.01)
    world.connector.unreachable.add("*")
    for _ in range(2):
        world.api.add(world.pod())
    await world.until(lambda: len(world.live()) == 2)
    await asyncio.sleep(0.2)
    assert not any(TAG_POD_UID in instance.tags for instance in world.live())
    monkeypatch.setattr(room, "STARTING_S", 0.0)
    await world.until(lambda: all(TAG_POD_UID in instance.tags for instance in world.live()))


async def test_one_bad_id_holds_no_other_termination(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud whose whole call fails for one ID, as EC2's does."""
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 5.0)
    pods = [world.api.add(world.pod()) for _ in range(6)]
    await world.until(lambda: running(world, pods) == 6)
    bad = world.live_of(pods[3])[0].instance_id
    original, calls = world.cloud.terminate, []

    async def strict(instance_ids: Sequence[str]) -> Any:
        calls.append(len(instance_ids))
        if bad in instance_ids:
            raise ends.CloudError("InternalError: an ID is bad")
        return await original(instance_ids)

    world.cloud.terminate = strict
    for pod in pods:
        world.api.mark_deleting(pod)
    await world.until(lambda: not world.api.pods and len(world.live()) == 1)
    assert [item.instance_id for item in world.live()] == [bad] and world.room.ends.pending == {bad}
    assert sum(calls) <= 6 * 4


async def test_a_termination_that_did_not_come_true_is_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "VERIFY_AFTER_S", 0.0)
    pod = await world.running()
    original = world.cloud.terminate

    async def pretend(instance_ids: Sequence[str]) -> Any:
        return [None for _ in instance_ids]

    world.cloud.terminate = pretend
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert len(world.live()) == 1
    world.cloud.terminate = original
    await world.room.table.refresh()
    await world.until(lambda: not world.live())


async def test_an_interruption_is_told_on_the_pod_which_is_stopped_before_it_comes(tmp_path: Path) -> None:
    world = World(tmp_path, SimulationConfig(faults=SimulatedFaults(notice_s=30.0)))
    await world.start()
    following = asyncio.create_task(world.room.run())
    pod = await world.running()
    world.cloud.interrupt(world.live_of(pod)[0].instance_id)
    await world.until(lambda: "InstanceInterrupted" in world.recorder.reasons())
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    status = world.api.status(pod)
    assert (status["reason"], "imminent node shutdown" in status["message"]) == ("Terminated", True)
    (condition,) = [each for each in status["conditions"] if each["type"] == "DisruptionTarget"]
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert world.recorder.reasons().count("InstanceInterrupted") == 1
    following.cancel()
    await world.stop()


async def test_a_far_interruption_is_told_at_once_and_stops_the_pod_when_it_is_near(world: World) -> None:
    pod = await world.running()
    (instance,) = world.live_of(pod)
    at = time.time() + interruptions.LEAD_S + 0.5
    notice = Notice(NoticeKind.INTERRUPTION, instance.instance_id, "retirement", at=at)
    world.room.table._take_notice(notice)
    world.room.table._take_notice(notice)
    await world.until(lambda: "InstanceInterrupted" in world.recorder.reasons())
    assert world.api.status(pod)["phase"] == "Running"
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert world.api.status(pod)["reason"] == "Terminated"
    assert world.recorder.reasons().count("InstanceInterrupted") == 1


async def test_an_agents_word_about_its_instance_stops_its_pod_and_tells_nothing_about_others(world: World) -> None:
    pod = await world.running()
    (instance,) = world.live_of(pod)
    owned = world.room.table.owned[instance.instance_id]
    soon = format_time(time.time() + 60)
    message: NoticeMessage = {"type": "notice", "podUID": owned.pod_uid, "action": "terminate", "time": soon}
    with pytest.raises(AgentProtocolError, match="no time"):
        world.room.interruptions.take_word(owned, {**message, "time": "2026-02-30T00:00:00Z"})
    world.room.interruptions.take_word(owned, message)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert world.room.shortages.current() == []


async def test_what_the_cloud_takes_back_is_avoided_for_a_while(world: World) -> None:
    pod = await world.running()
    (instance,) = world.live_of(pod)
    world.room.table._take_notice(Notice(NoticeKind.REBALANCE, instance.instance_id, "soon"))
    assert world.room.shortages.current() == []
    world.room.table._take_notice(Notice(NoticeKind.INTERRUPTION, instance.instance_id, "now"))
    ((shortage, _),) = world.room.shortages.current()
    assert (shortage.instance_type, shortage.zone) == (instance.instance_type, instance.zone)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
