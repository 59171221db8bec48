"""What a provider makes of pods and instances that it finds when it starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.launching import tags_of_pod
from vk_provider.cloud.base import InstancePage, LaunchRequest
from vk_provider.instances import missing

from .rig import NODE, OWNER, World
from .test_sweep import make_sweep

pytestmark = pytest.mark.usefixtures("quick")


async def test_a_restart_adopts_running_pods_and_changes_nothing(world: World) -> None:
    pod = await world.running()
    await world.settle()
    instance, patches = world.live_of(pod)[0], len(world.api.patches)
    await world.crash()
    assert await world.start() == []
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.session is not None and record.report.from_agent)
    await world.settle()
    assert world.live() == [instance]
    assert len(world.api.patches) == patches, "nothing new is told"
    assert world.controller.executor.gate.usage[NODE].used["cpu"] == 1, "it still needs room on the Node"


async def test_a_running_pod_whose_agent_is_silent_after_a_restart_is_kept(tmp_path: Any) -> None:
    world = World(tmp_path)
    await world.start()
    pod = await world.running()
    instance = world.live_of(pod)[0]
    await world.crash()
    world.boot_timeout_s = 0.02
    world.connector.unreachable.add(instance.instance_id)
    await world.start()
    await asyncio.sleep(0.4)
    assert world.live() == [instance], "it may run: only the cloud's word ends it"
    await world.stop()


async def test_a_restart_in_the_middle_of_a_boot_goes_on_with_the_same_instance(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    instance = world.live_of(pod)[0]
    await world.crash()
    world.connector.unreachable.clear()
    await world.start()
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    assert world.live() == [instance]


async def test_a_launch_whose_answer_was_lost_is_found_again_by_its_token(world: World, monkeypatch: Any) -> None:
    original = world.cloud.launch

    async def lost(requests: Any) -> Any:
        await original(requests)
        await asyncio.Event().wait()

    world.cloud.launch = lost
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    await world.crash()
    world.cloud.launch = original
    # The listing does not show it yet: an eventually consistent cloud.
    visible = world.cloud.list_page

    async def nothing(page: str = "") -> InstancePage:
        return InstancePage(())

    monkeypatch.setattr(world.cloud, "list_page", nothing)
    await world.start()
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    monkeypatch.setattr(world.cloud, "list_page", visible)
    assert len(world.live()) == 1


async def test_a_restart_finishes_what_a_terminal_pod_left(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    await world.crash()
    held = world.api.pods[("default", pod["metadata"]["name"])]
    held["status"]["phase"] = "Succeeded"
    await world.start()
    await world.until(lambda: not world.live())
    assert world.archive.path(pod["metadata"]["uid"], "c", False) is not None


async def test_a_deletion_begun_before_a_restart_is_finished(world: World) -> None:
    pod = await world.running()
    await world.crash()
    world.api.mark_deleting(pod)
    await asyncio.sleep(0)
    await world.start()
    await world.until(lambda: not world.api.pods and not world.live() and world.record(pod) is None)
    assert world.api.history[-1] in ("Succeeded", "Failed")


async def test_a_started_pod_whose_instance_is_not_listed_yet_is_not_taken_for_unstarted(
    world: World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.1)
    pod = await world.running()
    instance = world.live_of(pod)[0]
    await world.crash()
    world.api.mark_deleting(pod)
    await asyncio.sleep(0)
    listings = [InstancePage(())]
    visible = world.cloud.list_page

    async def late(page: str = "") -> InstancePage:
        return listings.pop() if listings else await visible()

    monkeypatch.setattr(world.cloud, "list_page", late)
    await world.start()
    await asyncio.sleep(0.03)
    assert world.api.pods and world.live() == [instance], "its containers get their grace period"
    await world.until(lambda: not world.api.pods and not world.live())
    assert any("terminated" in str(patch.get("containerStatuses")) for patch in world.api.patches)


async def test_a_pod_whose_instance_went_while_the_provider_was_down_fails(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.02)
    pod = await world.running()
    await world.crash()
    world.cloud.vanish(world.live_of(pod)[0].instance_id)
    await world.start()
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert world.api.status(pod)["reason"] == "InstanceTerminated"


async def _second_instance(world: World, pod: dict[str, Any]) -> Any:
    """The same attempt once more, by another offering: what a crash in the middle of a launch may leave."""
    offering = (await world.cloud.describe_offerings())[-1]
    metadata = pod["metadata"]
    tags = tags_of_pod(OWNER, NODE, metadata["uid"], metadata["name"])
    (second,) = (await world.cloud.launch(LaunchRequest("another-token", (offering,), tags, "boot"))).instances
    return second


async def test_of_two_instances_the_one_that_the_status_names_is_kept(world: World) -> None:
    pod = await world.running()
    first = world.live_of(pod)[0]
    second = await _second_instance(world, pod)
    await world.crash()
    # Started earlier, but the pod does not run there.
    world.cloud._instances[second.instance_id] = second = type(second)(
        **{name: getattr(second, name) for name in second.__slots__} | {"launch_time": first.launch_time - 60}
    )
    surplus = await world.start()
    assert [item.instance_id for item in surplus] == [second.instance_id]
    record = world.record(pod)
    assert record is not None and record.instance is not None
    assert record.instance.instance_id == first.instance_id
    sweep = make_sweep(world)
    await sweep.sweep()
    assert await sweep.sweep() == [second.instance_id] and world.live() == [first]


async def test_a_deletion_seen_while_adopting_ends_the_adopted_instance(world: World) -> None:
    pod = await world.running()
    await world.crash()
    instances = await world.start(adopt=False)
    world.api.remove(pod)
    await asyncio.sleep(0.02)
    world.controller.adopt(instances)
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []
