"""When a pod's place on its Node is free again: once nothing of it runs, as on a kubelet, not with its instance's end.

The scheduler gives the place away as soon as the API server shows the pod's end, in the middle of a preemption to a pod
that waits for it already.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.pods.rig import World
from vk_provider.jsontypes import Json


def fill_node(world: World) -> None:
    """Room for one pod."""
    world.node = {"metadata": {"labels": {}}, "status": {"allocatable": {"cpu": "1", "pods": "50"}}}


async def hang(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


async def is_admitted(world: World, pod: Json) -> None:
    def admitted() -> bool:
        record = world.record(pod)
        return record is not None and record.admission.admitted

    await world.until(admitted)
    record = world.record(pod)
    assert record is not None and not record.report.finished, record.report.status


async def test_the_place_of_a_deleted_pod_is_free_although_its_instance_cannot_be_terminated_yet(world: World) -> None:
    fill_node(world)
    victim = await world.running()
    world.connector.drain = hang
    world.api.mark_deleting(victim)
    await world.until(lambda: not world.api.pods)
    await is_admitted(world, world.api.add(world.pod()))


async def test_the_place_of_a_pod_that_ended_is_free_while_its_logs_are_archived(world: World) -> None:
    fill_node(world)
    task = await world.running(restartPolicy="Never")
    world.archive.fetch = hang
    world.connector.end_pod(world.live_of(task)[0].instance_id)
    await world.until(lambda: world.api.status(task)["phase"] == "Succeeded")
    await is_admitted(world, world.api.add(world.pod()))


async def test_the_place_of_a_pod_whose_object_is_gone_is_free_at_once(world: World) -> None:
    fill_node(world)
    forced = await world.running()
    world.connector.stop_slowly(world.live_of(forced)[0].instance_id)
    world.api.remove(forced)
    next_pod = world.api.add(world.pod())
    await is_admitted(world, next_pod)


async def test_the_place_of_a_pod_is_free_once_its_end_is_published_although_its_agent_still_tidies_up(
    world: World,
) -> None:
    """The scheduler's cache has no pods with a terminal phase."""
    fill_node(world)
    victim = await world.running()
    world.connector.stop_slowly(world.live_of(victim)[0].instance_id)
    world.api.mark_deleting(victim)
    await world.settle()
    record = world.record(victim)
    assert record is not None and record.report.status is not None
    ended = {**record.report.status, "phase": "Failed"}
    world.controller.agents.receive(
        record, {"type": "status", "podUID": record.uid, "status": ended, "finished": False}
    )
    await world.until(lambda: world.api.status(victim)["phase"] == "Failed")
    await is_admitted(world, world.api.add(world.pod()))


async def test_a_pod_that_is_being_stopped_keeps_its_place(world: World) -> None:
    fill_node(world)
    victim = await world.running()
    world.connector.stop_slowly(world.live_of(victim)[0].instance_id)
    world.api.mark_deleting(victim)
    await world.settle()
    refused = world.api.add(world.pod())
    await world.until(lambda: world.api.status(refused).get("phase") == "Failed")
    assert world.api.status(refused)["reason"] == "OutOfcpu"
