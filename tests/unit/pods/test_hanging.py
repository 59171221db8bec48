"""A call that hangs holds up what needs its answer and nothing else of its pod."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vk_provider.cloud.base import LaunchRequest
from vk_provider.errors import CloudError
from vk_provider.instances import links, table
from vk_provider.jsontypes import Json
from vk_provider.pods import state

from .rig import World
from .test_sweep import make_sweep


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)


async def hang_references(world: World, pod: Json) -> None:
    """From now on nothing that the pod refers to can be read, and something has to be."""
    world.references.gate = asyncio.Event()
    resolved = world.references.resolved
    world.references.subscribed[pod["metadata"]["uid"]]()
    await world.until(lambda: world.references.resolved > resolved)
    await world.settle()


async def test_a_pod_is_deleted_while_what_it_refers_to_cannot_be_read(world: World) -> None:
    pod = await world.running()
    await hang_references(world, pod)
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert (world.api.pods, world.live()) == ({}, [])
    assert received[0]["references"] == {"errors": {}}, "what was read last"


async def test_a_pod_that_never_got_its_references_is_deleted_and_its_agent_empties_nothing(world: World) -> None:
    world.references.gate = asyncio.Event()
    mounts = [{"name": "v", "configMap": {"name": "settings", "optional": True}}]
    pod = world.api.add(world.pod(volumes=mounts))
    record = world.record
    await world.until(lambda: (found := record(pod)) is not None and found.session is not None)
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert (world.api.pods, world.live()) == ({}, [])
    assert received[0]["references"]["configMaps"] == {}
    assert received[0]["references"]["errors"] == {"configmap/settings": "it has not been read yet"}


async def test_a_pod_is_force_deleted_while_what_it_refers_to_cannot_be_read(world: World) -> None:
    pod = await world.running()
    await hang_references(world, pod)
    world.api.remove(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []


async def test_a_lost_instance_is_told_while_what_the_pod_refers_to_cannot_be_read(world: World) -> None:
    pod = await world.running()
    await hang_references(world, pod)
    world.cloud.vanish(world.live_of(pod)[0].instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")


async def test_a_new_spec_is_read_for_anew_although_a_reading_is_under_way(world: World) -> None:
    pod = await world.running()
    await hang_references(world, pod)
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    resolved = world.references.resolved
    held = world.api.pods[("default", pod["metadata"]["name"])]
    held["metadata"]["generation"] = 2
    world.api.set_status(pod)
    await world.settle()
    gate = world.references.gate
    assert gate is not None
    gate.set()
    await world.until(lambda: any(message["type"] == "pod" for message in received))
    assert world.references.resolved == resolved + 1
    assert received[0]["pod"]["metadata"]["generation"] == 2


class Launches:
    """cloud.launch whose answers wait for `gate`; `lost`: there is no answer, although the instance is made."""

    def __init__(self, world: World) -> None:
        self.gate, self.called, self.lost = asyncio.Event(), asyncio.Event(), False
        self._original = world.cloud.launch
        world.cloud.launch = self._launch

    async def _launch(self, request: LaunchRequest) -> Any:
        self.called.set()
        await self.gate.wait()
        answer = await self._original(request)
        if self.lost:
            raise CloudError("launch: no answer within 300 s")
        return answer


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("forced", [False, True])
async def test_a_deletion_does_not_wait_for_a_launch_and_what_the_launch_brings_is_ended(
    world: World, forced: bool, lost: bool
) -> None:
    launches = Launches(world)
    pod = world.api.add(world.pod())
    await launches.called.wait()
    if forced:
        world.api.remove(pod)
    else:
        world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.api.pods == {}
    launches.lost = lost
    launches.gate.set()
    await world.until(lambda: len(world.cloud._instances) == 1 and not world.live())
    sweep = make_sweep(world)
    assert (await sweep.sweep(), await sweep.sweep()) == ([], [])


async def test_a_launch_without_an_answer_is_looked_up_by_its_token(world: World) -> None:
    launches = Launches(world)
    launches.lost = True
    launches.gate.set()
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    launches.lost = False
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    assert len(world.cloud._instances) == 1


async def test_a_stop_during_a_launch_leaves_no_tasks(world: World) -> None:
    launches = Launches(world)
    world.api.add(world.pod())
    await launches.called.wait()
    await world.controller.close(0.1)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("launch ", "pod ", "references "))]


async def pending_is_due(world: World, pod: Json) -> None:
    """While the pod's references are read, the time after which a pod says Pending passes."""
    await world.until(lambda: (record := world.record(pod)) is not None and record.reading.task is not None)
    record = world.record(pod)
    assert record is not None
    record.publication.pending_due = record.bound_at
    world.controller.wake(record.uid)


async def test_a_pod_that_waits_for_its_references_says_pending_only_after_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "READING_PATIENCE_S", 0.2)
    world.references.gate = asyncio.Event()
    began = asyncio.get_running_loop().time()
    pod = world.api.add(world.pod())
    await pending_is_due(world, pod)
    await world.until(lambda: world.api.status(pod).get("startTime"))
    assert asyncio.get_running_loop().time() - began >= 0.2
    assert world.api.status(pod)["phase"] == "Pending"
    world.references.gate.set()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")


async def test_a_pod_that_runs_as_soon_as_its_references_are_read_never_says_pending(world: World) -> None:
    world.references.gate = asyncio.Event()
    pod = world.api.add(world.pod())
    await pending_is_due(world, pod)
    await asyncio.sleep(0.1)
    assert world.api.patches == []
    world.references.gate.set()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert [patch["phase"] for patch in world.api.patches] == ["Running"]
