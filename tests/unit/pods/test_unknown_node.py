"""A Node that was not read yet refuses nothing."""

from __future__ import annotations

from vk_provider.jsontypes import Json

from .rig import NODE, World

LABELLED: Json = {
    "metadata": {"labels": {"type": "virtual-kubelet"}},
    "status": {"allocatable": {"cpu": "2", "pods": "50"}},
}


async def test_a_pod_that_waited_over_a_restart_is_admitted_once_the_node_is_known(world: World) -> None:
    await world.crash()
    world.node = None
    selector = {"nodeSelector": {"type": "virtual-kubelet"}}
    pods = [world.api.add(world.pod(**selector)) for _ in range(3)]
    await world.start()
    await world.settle()
    assert world.api.patches == [] and world.live() == []
    world.node = LABELLED
    world.controller.on_node_known(NODE)
    await world.until(lambda: sum(world.api.status(pod).get("phase") == "Running" for pod in pods) == 2)
    await world.until(lambda: sum(world.api.status(pod).get("phase") == "Failed" for pod in pods) == 1)
    assert {world.api.status(pod).get("reason") for pod in pods} == {None, "OutOfcpu"}, "its capacity is checked, too"


async def test_a_pod_that_waits_for_the_node_is_not_looked_at_again_and_again(world: World) -> None:
    world.node = None
    pod = world.api.add(world.pod())
    await world.settle()
    runs, original = 0, world.controller._workers._handle

    async def count(key: str) -> float | None:
        nonlocal runs
        runs += 1
        return await original(key)

    world.controller._workers._handle = count
    world.controller.wake(pod["metadata"]["uid"])
    await world.settle()
    assert runs == 1 and world.live() == []


async def test_a_pod_that_waits_for_the_node_can_be_deleted(world: World) -> None:
    world.node = None
    pod = world.api.add(world.pod())
    await world.settle()
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.api.pods == {}


async def test_pods_that_run_are_adopted_without_the_node(world: World) -> None:
    pod = await world.running()
    await world.crash()
    world.node = None
    await world.start()
    await world.until(lambda: (found := world.record(pod)) is not None and found.report.from_agent)
    assert world.api.status(pod)["phase"] == "Running" and len(world.live_of(pod)) == 1
