"""An instance that cannot be terminated holds nobody else, and somebody is told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from vk_provider.cloud.base import InstanceState, TerminateResult
from vk_provider.instances import ends, links, table
from vk_provider.instances.ends import Ends
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.ledger.meter import Meter
from vk_provider.pods.record import PodRecord

from .rig import World
from .test_sweep import launch, make_sweep


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(ends, "RETRY_MAX_S", 0.01)


async def test_each_of_a_batch_has_its_own_result(world: World) -> None:
    instances = [await launch(world, f"u{number}", "p", f"t{number}") for number in range(3)]
    ids = [instance.instance_id for instance in instances]
    world.cloud.failures.protected = {ids[1]}
    ending = Ends(world.cloud, InstanceMetrics(CollectorRegistry()), Meter(lambda _: 1.0))
    assert await asyncio.gather(*(ending.end(each, "test") for each in ids)) == [True, False, True]
    assert [item.instance_id for item in world.live()] == [ids[1]] and ending.pending == {ids[1]}
    world.cloud.failures.protected = set()
    await world.until(lambda: not world.live())
    await world.until(lambda: not ending.pending)
    await ending.close()


async def test_an_answer_with_too_few_results_loses_no_termination(world: World, monkeypatch: Any) -> None:
    ids = [(await launch(world, f"u{number}", "p", f"t{number}")).instance_id for number in range(2)]
    terminate, asked = world.cloud.terminate, list[int]()

    async def answer_short(instance_ids: Sequence[str]) -> list[TerminateResult]:
        asked.append(len(instance_ids))
        return [] if len(asked) <= 3 else await terminate(instance_ids)

    monkeypatch.setattr(world.cloud, "terminate", answer_short)
    ending = Ends(world.cloud, InstanceMetrics(CollectorRegistry()), Meter(lambda _: 1.0))
    assert await asyncio.gather(*(ending.end(each, "test") for each in ids)) == [False, False]
    await world.until(lambda: not world.live() and not ending.pending)
    await ending.close()


async def test_a_pod_whose_instance_cannot_be_terminated_is_let_go_and_the_instance_ends_later(world: World) -> None:
    pod = await world.running()
    world.cloud.failures.protected = {world.live_of(pod)[0].instance_id}
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.api.pods == {} and len(world.live()) == 1
    world.cloud.failures.protected = set()
    await world.until(lambda: not world.live())


async def test_a_replacement_does_not_wait_for_an_instance_that_cannot_be_terminated(
    world: World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ends, "STUCK_AFTER_S", 0.0)
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    record, first = world.record(pod), world.live_of(pod)[0].instance_id
    assert record is not None
    world.cloud.failures.protected = {first}
    assert record.owned is not None
    record.owned.boot_failed = "the agent did not answer"
    world.controller.wake(record.uid)
    world.connector.unreachable = {first}
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert {item.instance_id for item in world.live_of(pod)} > {first}
    ending = world.room.ends
    await world.until(lambda: ending.stuck == {first})
    await world.until(lambda: "FailedTerminate" in world.recorder.reasons())
    assert first in dict(world.recorder.events)["FailedTerminate"]
    await asyncio.sleep(0.05)
    assert world.recorder.reasons().count("FailedTerminate") == 1, "it is told once"
    world.cloud.failures.protected = set()
    await world.until(lambda: len(world.live_of(pod)) == 1 and not ending.stuck)


async def test_a_sweep_ends_all_orphans_but_the_one_that_cannot_be_terminated(world: World) -> None:
    orphans = [await launch(world, f"gone{number}", "p", f"t{number}") for number in range(3)]
    ids = sorted(instance.instance_id for instance in orphans)
    world.cloud.failures.protected = {ids[0]}
    sweep = make_sweep(world)
    await sweep.sweep()
    assert await sweep.sweep() == ids[1:]
    assert await sweep.sweep() == [] and await sweep.sweep() == [], "it is somebody else's by now"
    world.cloud.failures.protected = set()
    await world.until(lambda: not world.live())


async def test_nothing_takes_the_place_of_an_instance_that_only_shuts_down(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    first = world.live_of(pod)[0].instance_id
    turn(world, first, InstanceState.SHUTTING_DOWN)
    await asyncio.sleep(0.1)
    assert len(world.cloud._instances) == 1 and "InstanceBootFailed" not in world.recorder.reasons()
    world.connector.unreachable.clear()
    world.cloud.vanish(first)
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    assert len(world.cloud._instances) == 2


async def test_a_pod_is_lost_with_the_end_of_its_instance_and_not_with_the_beginning_of_it(world: World) -> None:
    pod = await world.running()
    instance_id = world.live_of(pod)[0].instance_id
    turn(world, instance_id, InstanceState.SHUTTING_DOWN)
    world.connector.cut(instance_id)
    await asyncio.sleep(0.1)
    assert world.api.status(pod)["phase"] == "Running"
    world.cloud.vanish(instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")


async def test_a_pod_is_not_launched_anew_for_an_end_that_its_link_has_not_noticed(world: World) -> None:
    """A listing says so while the link waits to dial again, and the pod is looked at just then."""
    pod = await world.running()
    record = world.record(pod)
    assert record is not None and record.owned is not None
    world.connector.cut(record.owned.instance_id)
    await world.until(lambda: record.session is None)
    record.owned.described = replace(record.owned.described, state=InstanceState.TERMINATED)
    world.controller.wake(record.uid)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert len(world.cloud._instances) == 1


async def test_an_instance_that_was_stopped_from_inside_has_lost_its_pod_and_is_terminated(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    instance_id = world.live_of(pod)[0].instance_id
    turn(world, instance_id, InstanceState.STOPPED)
    world.connector.cut(instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    await world.until(lambda: not world.live())
    assert world.api.status(pod)["message"] == f"instance {instance_id} is stopped"


async def test_a_restart_takes_an_instance_that_shuts_down_for_one_that_still_runs_its_pod(world: World) -> None:
    pod = await world.running()
    instance_id = world.live_of(pod)[0].instance_id
    await world.crash()
    turn(world, instance_id, InstanceState.SHUTTING_DOWN)
    await world.start()
    await asyncio.sleep(0.1)
    record = world.record(pod)
    assert record is not None and record.instance is not None and record.instance.instance_id == instance_id
    assert world.api.status(pod)["phase"] == "Running" and len(world.cloud._instances) == 1
    world.cloud.vanish(instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")


async def test_of_two_instances_of_a_pod_that_never_started_the_one_that_shuts_down_is_not_taken(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod) and world.api.status(pod).get("hostIP"))
    first = world.live_of(pod)[0].instance_id
    await world.crash()
    turn(world, first, InstanceState.SHUTTING_DOWN)
    second = await launch(world, pod["metadata"]["uid"], pod["metadata"]["name"])
    surplus = await world.start()
    assert [item.instance_id for item in surplus] == [first]
    record = world.record(pod)
    assert record is not None and record.instance is not None
    assert record.instance.instance_id == second.instance_id


def turn(world: World, instance_id: str, state: InstanceState) -> None:
    world.cloud._instances[instance_id] = replace(world.cloud._instances[instance_id], state=state)


async def test_an_instance_that_is_not_seen_to_end_yet_holds_nothing_of_its_pod(world: World) -> None:
    """It is known for a minute after its termination was accepted: as many records as pods end in that time."""
    others = find_records()
    pod = await world.running()
    instance_id = world.live_of(pod)[0].instance_id
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None and not world.live())
    assert instance_id in world.room.ends.known
    await asyncio.sleep(0.05)
    gc.collect()
    assert all(any(record is other for other in others) for record in find_records())


def find_records() -> list[PodRecord]:
    return [each for each in gc.get_objects() if isinstance(each, PodRecord)]
