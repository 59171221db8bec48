"""Which pod a status speaks of: the one that the pass under way began with, as a kubelet's SyncPod generates it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agent.worker.builders import PROBE, container, deleted, pod
from tests.unit.agent.worker.workerrig import Rig, WorkerRig, entry_of
from vk_provider.agent.worker.errors import InterruptedByStop
from vk_provider.agent.worker.lifecycle import VOLUMES_WAIT_S
from vk_provider.jsontypes import Json
from vk_provider.podmodel.status import PodEnd
from vk_provider.rfc3339 import parse_time

AMOUNTS: Json = {"requests": {"cpu": "10m"}, "limits": {"cpu": "100m"}}
MORE: Json = {"requests": {"cpu": "10m"}, "limits": {"cpu": "200m"}}
LATE: Json = {"name": "late", "configMap": {"name": "late"}}
MOUNT: Json = {"volumeMounts": [{"name": "late", "mountPath": "/late"}], "resources": AMOUNTS}
READ: Json = {"configMaps": {"late": {"data": {"a": "1"}}}}


def change(rig: WorkerRig, generation: int = 2, *, resources: Json | None = None, **spec: Any) -> None:
    """A newer pod comes from the API."""
    before = rig.memory.api_pod
    containers = before["spec"]["containers"]
    if resources is not None:
        containers = [{**each, "resources": resources} for each in containers]
    metadata = {**before["metadata"], "generation": generation}
    rig.memory.replace_pod(
        {**before, "metadata": metadata, "spec": {**before["spec"], "containers": containers, **spec}}
    )
    rig.run.wake()


def shown(rig: WorkerRig) -> Json:
    return rig.memory.status


async def wait_for_a_volume(rig: Rig) -> WorkerRig:
    world = rig(pod(container("main", **MOUNT), volumes=[LATE]))
    await world.pass_()
    assert shown(world)["phase"] == "Pending"
    world.told.reasons.clear()
    return world


async def test_while_a_pod_waits_for_a_volume_its_status_is_that_of_the_pod_before(rig: Rig) -> None:
    world = await wait_for_a_volume(rig)
    debug = {"name": "debug", "image": "busybox:1"}
    change(world, resources=MORE, ephemeralContainers=[debug])
    for _ in range(2):
        await world.pass_()
    status = shown(world)
    assert {status["observedGeneration"], *(c["observedGeneration"] for c in status["conditions"])} == {1}
    assert "PodResizeInProgress" not in {c["type"] for c in status["conditions"]}
    assert "ephemeralContainerStatuses" not in status
    assert status["resources"]["limits"] == AMOUNTS["limits"]
    assert [reason for reason in world.told.reasons if "Resize" in reason] == ["ResizeStarted"]


async def test_once_the_volume_is_there_the_newest_pod_runs_and_is_shown(rig: Rig) -> None:
    world = await wait_for_a_volume(rig)
    change(world, resources=MORE)
    await world.pass_()
    world.memory.references = {**world.memory.references, **READ}
    await world.pass_()
    assert shown(world)["observedGeneration"] == 2
    assert "running" in entry_of(shown(world), "main")["state"]
    await world.pass_()
    assert [reason for reason in world.told.reasons if "Resize" in reason] == ["ResizeStarted", "ResizeCompleted"]


async def test_a_wait_for_volumes_hides_a_change_as_long_as_a_kubelet_waits(rig: Rig) -> None:
    world = await wait_for_a_volume(rig)
    change(world)
    world.clock.now += VOLUMES_WAIT_S - 1
    await world.pass_()
    assert shown(world)["observedGeneration"] == 1
    world.clock.now += 1
    await world.pass_()
    assert shown(world)["observedGeneration"] == 2
    change(world, 3)
    await world.pass_()
    assert shown(world)["observedGeneration"] == 2


async def test_a_deletion_ends_the_wait_for_volumes(rig: Rig) -> None:
    world = await wait_for_a_volume(rig)
    gone = deleted(world.memory.api_pod)
    world.memory.replace_pod({**gone, "metadata": {**gone["metadata"], "generation": 2}})
    world.run.wake()
    await world.run._termination.run()
    assert shown(world)["observedGeneration"] == 2


async def test_a_change_that_comes_during_a_pass_is_shown_with_the_next_one(rig: Rig) -> None:
    world = rig(pod(container("main")))
    publish, seen = world.runtime.step, []

    async def step() -> None:
        if not seen:
            change(world)
        await publish()
        seen.append(shown(world)["observedGeneration"])

    world.runtime.step = step
    await world.pass_()
    assert set(seen) == {1}
    assert shown(world)["observedGeneration"] == 1
    await world.pass_()
    assert shown(world)["observedGeneration"] == 2


async def test_what_changes_after_the_end_changes_no_status(rig: Rig) -> None:
    world = rig(pod(container("main", resources=AMOUNTS), policy="Never"))
    await world.start()
    world.runtime.end(world.id_of("main"), 0)
    await world.run._termination.run()
    before = shown(world)
    assert before["phase"] == "Succeeded"
    change(world, resources=MORE)
    await world.publish()
    assert shown(world) == before
    assert "ResizeStarted" in world.told.reasons


async def test_a_pass_probes_what_is_not_ready_once_however_often_its_status_is_computed(rig: Rig) -> None:
    probe = {**PROBE, "exec": {"command": ["probe"]}}
    world = rig(pod(container("main", readinessProbe=probe)))
    await world.start()
    worker = world.run._probes._workers[world.id_of("main"), "readiness"]
    calls: list[int] = []
    worker.trigger = lambda: calls.append(1)
    for _ in range(3):
        await world.publish()
    assert not calls
    await world.pass_()
    await world.publish()
    assert len(calls) == 1


async def test_a_pod_over_its_deadline_is_probed_no_more_while_it_is_stopped(rig: Rig) -> None:
    probe = {**PROBE, "exec": {"command": ["probe"]}}
    world = rig(pod(container("main", readinessProbe=probe)))
    await world.start()
    assert world.run._probes._tasks
    change(world, activeDeadlineSeconds=5)
    world.clock.now = parse_time(shown(world)["startTime"]) + 6
    with pytest.raises(InterruptedByStop):
        await world.pass_()
    stop, probes = world.runtime.stop_container, []

    async def stop_slowly(container_id: str, timeout_s: int) -> None:
        await world.publish()
        probes.append(len(world.run._probes._tasks))
        await stop(container_id, timeout_s)

    world.runtime.stop_container = stop_slowly
    await world.run._termination.run()
    assert probes == [0]


async def test_a_resized_container_that_cannot_be_made_is_tried_each_second(rig: Rig) -> None:
    """As a kubelet does: its pass carries the resize out, after which it looks at the pod again."""
    world = rig(pod(container("main", resources=AMOUNTS, envFrom=[{"configMapRef": {"name": "none"}}])))
    await world.pass_()
    assert await world.pass_() == world.clock.now + 10
    change(world, resources=MORE)
    for _ in range(2):
        assert await world.pass_() == world.clock.now + 1
    assert [reason for reason in world.told.reasons if "Resize" in reason] == ["ResizeStarted", "ResizeCompleted"]


async def test_a_resized_container_in_its_back_off_is_looked_at_each_second_until_it_starts(rig: Rig) -> None:
    world = rig(pod(container("main", resources={"requests": {"cpu": "10m"}}), resources=AMOUNTS))
    await world.start()
    for _ in range(2):
        world.runtime.end(world.id_of("main"), 1)
        due_s = await world.pass_()
    assert due_s == pytest.approx(world.clock.now + 10, abs=1)
    before = world.memory.api_pod
    world.memory.replace_pod({**before, "spec": {**before["spec"], "resources": MORE}})
    world.run.wake()
    for _ in range(2):
        assert await world.pass_() == world.clock.now + 1
    world.clock.now += 11
    await world.pass_()
    assert "running" in entry_of(shown(world), "main")["state"]
    assert await world.pass_() is None


def pass_deadline(world: WorkerRig, generation: int = 2) -> None:
    """The API gives the pod a deadline, which passes."""
    change(world, generation, activeDeadlineSeconds=5)
    world.clock.now = parse_time(shown(world)["startTime"]) + 5


async def test_a_deadline_that_passes_while_a_deleted_pod_ends_is_why_it_failed(rig: Rig) -> None:
    world = rig(pod(container("main")))
    await world.start()
    stop = world.runtime.stop_container

    async def stop_slowly(container_id: str, timeout_s: int) -> None:
        pass_deadline(world, 3)
        await world.publish()
        assert (shown(world)["observedGeneration"], shown(world).get("reason")) == (2, None)
        await stop(container_id, timeout_s)

    world.runtime.stop_container = stop_slowly
    gone = deleted(world.memory.api_pod)
    world.memory.replace_pod({**gone, "metadata": {**gone["metadata"], "generation": 2}})
    world.run.wake()
    await world.run._termination.run()
    status = shown(world)
    assert (status["phase"], status["reason"], status["observedGeneration"]) == ("Failed", "DeadlineExceeded", 3)
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert world.told.reasons.count("DeadlineExceeded") == 1


async def test_a_deadline_that_has_passed_when_a_pod_is_deleted_is_told_at_once(rig: Rig) -> None:
    world = rig(pod(container("main")))
    await world.start()
    stop, told = world.runtime.stop_container, []

    async def stop_slowly(container_id: str, timeout_s: int) -> None:
        told.extend(world.told.reasons)
        await stop(container_id, timeout_s)

    world.runtime.stop_container = stop_slowly
    world.memory.replace_pod(deleted(world.memory.api_pod))
    pass_deadline(world)
    await world.run._termination.run()
    assert "DeadlineExceeded" in told
    assert world.told.reasons.count("DeadlineExceeded") == 1
    assert (shown(world)["phase"], shown(world)["reason"]) == ("Failed", "DeadlineExceeded")


async def test_a_deadline_that_has_passed_when_all_is_done_fails_the_pod(rig: Rig) -> None:
    world = rig(pod(container("main"), policy="Never"))
    await world.start()
    world.runtime.end(world.id_of("main"), 0)
    pass_deadline(world)
    with pytest.raises(InterruptedByStop):
        await world.pass_()
    await world.run._termination.run()
    assert (shown(world)["phase"], shown(world)["reason"]) == ("Failed", "DeadlineExceeded")
    assert entry_of(shown(world), "main")["state"]["terminated"]["exitCode"] == 0
    assert world.told.reasons.count("DeadlineExceeded") == 1


async def test_an_evicted_pod_that_ends_past_its_deadline_failed_for_that(rig: Rig) -> None:
    world = rig(pod(container("main")))
    await world.start()
    world.memory.end = PodEnd("Evicted", "usage", disruption=True)
    stop = world.runtime.stop_container

    async def stop_slowly(container_id: str, timeout_s: int) -> None:
        pass_deadline(world)
        await stop(container_id, timeout_s)

    world.runtime.stop_container = stop_slowly
    await world.run._termination.run()
    assert shown(world)["reason"] == "DeadlineExceeded"
    assert "DisruptionTarget" in {each["type"] for each in shown(world)["conditions"]}


async def test_a_deadline_that_passes_after_the_end_fails_no_pod(rig: Rig) -> None:
    world = rig(pod(container("main"), policy="Never", activeDeadlineSeconds=5))
    world.clock.now = parse_time(shown(world)["startTime"])
    await world.start()
    world.runtime.end(world.id_of("main"), 0)
    with pytest.raises(InterruptedByStop):
        await world.pass_()
    await world.run._termination.run()
    before = shown(world)
    assert (before["phase"], before.get("reason")) == ("Succeeded", None)
    pass_deadline(world)
    await world.publish()
    assert shown(world) == before


async def test_a_pod_that_is_deleted_is_probed_for_readiness_until_its_containers_end(rig: Rig) -> None:
    probe = {**PROBE, "exec": {"command": ["probe"]}}
    world = rig(pod(container("main", readinessProbe=probe, livenessProbe=probe)))
    await world.start()
    world.memory.replace_pod(deleted(world.memory.api_pod))
    world.run.wake()
    await world.publish()
    assert [kind for _, kind in world.run._probes._tasks] == ["readiness"]
