"""A pod's life through the controller, and everything that may come between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vk_provider.cloud.base import offering_key
from vk_provider.errors import KubeApiError

from .rig import NODE, World

pytestmark = pytest.mark.usefixtures("quick")


async def test_a_pod_runs_is_deleted_and_leaves_nothing(world: World) -> None:
    pod = await world.running()
    assert len(world.live_of(pod)) == 1
    assert [*world.api.history] == ["Running"], "one PATCH brings it up"
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert (world.api.pods, world.live(), world.references.subscribed) == ({}, [], {})
    assert world.api.deletes == 1
    assert world.controller.find("default", pod["metadata"]["name"]) is None


async def test_a_pod_that_ends_keeps_its_logs_and_costs_nothing_any_more(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.connector.end_pod(world.live_of(pod)[0].instance_id)
    await world.until(lambda: not world.live())
    await world.settle()
    assert world.api.status(pod)["phase"] == "Succeeded"
    assert world.archive.path(pod["metadata"]["uid"], "c", False) is not None
    assert world.references.subscribed == {}, "a finished pod's Secrets are not followed"
    usage = world.controller.executor.gate.usage[NODE]
    assert len(usage) == 0
    world.api.remove(pod)
    await world.until(lambda: world.archive.path(pod["metadata"]["uid"], "c", False) is None)
    assert world.record(pod) is None


async def test_a_pod_deleted_while_its_instance_boots_ends_at_once(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert (world.api.pods, world.live()) == ({}, [])


async def test_a_pod_deleted_during_its_launch_leaves_no_instance(world: World, monkeypatch: Any) -> None:
    gate, started = asyncio.Event(), asyncio.Event()
    original = world.cloud.launch

    async def slow(requests: Any) -> Any:
        started.set()
        await gate.wait()
        return await original(requests)

    world.cloud.launch = slow
    pod = world.api.add(world.pod())
    await started.wait()
    world.api.mark_deleting(pod)
    await asyncio.sleep(0.02)
    await world.until(lambda: world.record(pod) is None)
    assert world.api.pods == {}, "nobody waits for the cloud"
    gate.set()
    await world.until(lambda: len(world.cloud._instances) == 1 and world.live() == [])


async def test_a_pod_removed_during_its_launch_leaves_no_instance(world: World) -> None:
    gate, started = asyncio.Event(), asyncio.Event()
    original = world.cloud.launch

    async def slow(requests: Any) -> Any:
        started.set()
        await gate.wait()
        return await original(requests)

    world.cloud.launch = slow
    pod = world.api.add(world.pod())
    await started.wait()
    world.api.remove(pod)
    await world.until(lambda: world.record(pod) is None)
    gate.set()
    await world.until(lambda: len(world.cloud._instances) == 1 and world.live() == [])


async def test_a_force_deleted_pod_is_stopped_and_its_instance_ends(world: World) -> None:
    pod = await world.running()
    world.api.remove(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []


async def test_a_deletion_found_by_listing_again_ends_the_pod(world: World) -> None:
    pod = await world.running()
    del world.api.pods[("default", pod["metadata"]["name"])]
    stub = {name: pod["metadata"][name] for name in ("uid", "name", "namespace", "resourceVersion")}
    world.controller.on_pod(NODE, "DELETED", {"metadata": stub})
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []


async def test_a_pod_of_the_same_name_is_another_pod(world: World) -> None:
    first = await world.running()
    second = world.pod()
    second["metadata"]["name"] = first["metadata"]["name"]
    world.api.remove(first)
    world.api.add(second)
    await world.until(lambda: world.record(first) is None and world.api.status(second).get("phase") == "Running")
    found = world.controller.find("default", first["metadata"]["name"])
    assert found is not None and found.uid == second["metadata"]["uid"]
    assert len(world.live()) == 1


async def test_a_lost_instance_fails_the_pod_with_a_reason(world: World) -> None:
    pod = await world.running()
    world.cloud.vanish(world.live_of(pod)[0].instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    status = world.api.status(pod)
    assert status["reason"] == "InstanceTerminated" and "reclaimed" in status["message"]
    assert any(item["type"] == "DisruptionTarget" for item in status["conditions"])
    await world.settle()
    assert world.references.subscribed == {}


async def test_nothing_is_concluded_while_the_cloud_does_not_answer(world: World) -> None:
    pod = await world.running()
    world.cloud.failures.throttled = 10**6
    instance_id = world.live_of(pod)[0].instance_id
    world.connector.cut(instance_id)
    await asyncio.sleep(0.15)
    assert world.api.status(pod)["phase"] == "Running" and world.live_of(pod)
    world.cloud.failures.throttled = 0
    world.connector.unreachable.clear()
    record = world.record(pod)
    await world.until(lambda: record is not None and record.session is not None)
    assert world.api.status(pod)["phase"] == "Running"


async def test_an_instance_that_dies_before_it_answers_is_replaced_and_the_address_with_it(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.api.status(pod).get("podIP"))
    first = world.live_of(pod)[0]
    world.cloud.vanish(first.instance_id)
    await world.until(lambda: world.live_of(pod))
    world.connector.unreachable.clear()
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    second = world.live_of(pod)[0]
    assert second.instance_id != first.instance_id
    assert world.api.status(pod)["podIPs"] == [{"ip": second.pod_ip}]
    assert "InstanceBootFailed" in world.recorder.reasons()


async def test_after_three_failed_boots_the_pod_fails(tmp_path: Any) -> None:
    world = World(tmp_path)
    world.boot_timeout_s = 0.05
    await world.start()
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.api.status(pod).get("phase") == "Failed")
    assert world.api.status(pod)["reason"] == "InstanceBootFailed"
    await world.until(lambda: not world.live())
    assert len(world.cloud._instances) == 3
    await world.stop()


async def test_a_held_pod_gets_no_instance_and_can_be_deleted(world: World) -> None:
    pod = world.pod()
    pod["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    world.api.add(pod)
    await world.until(lambda: "DaemonSetNotSupported" in world.recorder.reasons())
    await world.settle()
    assert (world.live(), world.api.patches) == ([], [])
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)


async def test_a_pod_that_fits_nowhere_is_refused_with_a_reason(world: World) -> None:
    pod = world.pod()
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "101"
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert world.api.status(pod)["reason"] == "OutOfcpu"


async def test_another_offering_is_taken_when_one_has_no_capacity(world: World) -> None:
    offerings = await world.cloud.describe_offerings()
    fitting = [item for item in offerings if item.cpu_milli >= 1000]
    world.cloud.failures.no_capacity = {offering_key(fitting[0])}
    pod = await world.running()
    instance = world.live_of(pod)[0]
    assert (instance.instance_type, instance.zone, instance.capacity_type) != offering_key(fitting[0])
    assert len(world.live()) == 1


async def test_while_the_api_server_is_down_pods_go_on_and_statuses_catch_up(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    world.api.down = True
    world.connector.end_pod(world.live_of(pod)[0].instance_id, exit_code=3)
    await asyncio.sleep(0.05)
    assert world.live(), "how it ended is known here alone: the instance stays until that is told"
    world.api.down = False
    await world.until(lambda: not world.live())
    assert world.api.status(pod)["phase"] == "Failed"


async def test_a_refused_status_is_not_sent_for_ever_and_the_next_one_tells_all(world: World) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None and record.report.status is not None
    original, tries = world.api.patch_strategic, 0

    async def refuse(path: str, body: dict[str, Any]) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        raise KubeApiError(422, "Invalid", "spec: Forbidden")

    world.api.patch_strategic = refuse
    told = {"type": "status", "podUID": record.uid, "finished": False}
    world.controller.agents.receive(
        record, {**told, "status": {**record.report.status, "reason": "Odd", "message": "m"}}
    )
    await world.until(lambda: tries)
    for _ in range(3):
        world.controller.wake(record.uid)
        await world.settle()
    assert tries == 1
    world.api.patch_strategic = original
    world.controller.agents.receive(record, {**told, "status": {**record.report.status, "message": "other"}})
    await world.until(lambda: world.api.status(pod).get("message") == "other")
    assert world.api.status(pod)["reason"] == "Odd", "what the refused PATCH held is told with the next"


async def test_a_pod_that_others_failed_before_it_started_is_left_in_peace(world: World) -> None:
    pod = world.pod()
    pod["status"] = {"phase": "Failed"}
    world.api.add(pod)
    await world.settle()
    runs = 0
    original = world.controller._workers._handle

    async def count(key: str) -> float | None:
        nonlocal runs
        runs += 1
        return await original(key)

    world.controller._workers._handle = count
    world.controller.wake(pod["metadata"]["uid"])
    await asyncio.sleep(0.3)
    assert runs == 1, "nobody looks at it again and again"


async def test_a_slow_pod_says_pending_once(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.api.status(pod).get("startTime"))
    await asyncio.sleep(0.1)
    assert world.api.history == ["Pending"]
    world.connector.unreachable.clear()
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    assert len(world.api.patches) == 2


async def test_a_stop_leaves_instances_and_no_tasks(world: World) -> None:
    pod = await world.running()
    before = {task for task in asyncio.all_tasks() if task.get_name().startswith(("session", "pod ", "renew"))}
    assert before
    await world.controller.close(1.0)
    after = {task for task in asyncio.all_tasks() if task.get_name().startswith(("session", "pod ", "renew"))}
    assert after == set()
    assert len(world.live_of(pod)) == 1


async def test_what_the_provider_says_about_an_instance_is_no_event_of_the_kubelets(world: World) -> None:
    """A source has 25 events of each type on a pod: those of the agent are not dropped for those of the provider."""
    await world.running()
    await world.until(lambda: "Started" in world.recorder.reasons())
    world.api.add(world.pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "101"}}}]))
    await world.until(lambda: "OutOfcpu" in world.recorder.reasons())
    of = world.recorder.components
    assert of["InstanceLaunched"] == "vk-provider"
    assert of["Pulled"] == of["Created"] == of["Started"] == of["OutOfcpu"] == "kubelet"


async def test_a_rejected_pod_has_no_conditions_but_those_of_others(world: World) -> None:
    pod = world.pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "101"}}}])
    others = {"type": "example.com/Other", "status": "True"}
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}, others]
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    await world.settle()
    status = world.api.status(pod)
    assert status["conditions"] == [others]
    assert (status["reason"], bool(status["startTime"])) == ("OutOfcpu", True)
    assert "containerStatuses" not in status


def hold(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A finalizer keeps every object: a DELETE takes nothing away. Returns the paths of those that came."""
    asked: list[str] = []

    async def delete(path: str, body: Any) -> None:
        asked.append(path)

    monkeypatch.setattr(world.api, "delete", delete)
    return asked


async def test_a_rejected_pod_gets_the_status_of_one_that_never_began_with_its_deletion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet's pod worker sees a rejected pod only when it is deleted (filterTerminalPodsToDelete)."""
    asked = hold(world, monkeypatch)
    addresses = [{"type": "Hostname", "address": NODE}, {"type": "InternalIP", "address": "192.0.2.9"}]
    world.node = {**(world.node or {}), "status": {**(world.node or {})["status"], "addresses": addresses}}
    pod = world.pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "101"}}}])
    others = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    pod["status"]["conditions"] = [others]
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    await world.settle()
    before = dict(world.api.status(pod))
    assert "containerStatuses" not in before
    world.api.mark_deleting(pod, grace_s=0)
    await world.until(lambda: len(asked) == 1)
    await world.settle()
    status = world.api.status(pod)
    kept = ("phase", "reason", "message", "startTime")
    assert [status[name] for name in kept] == [before[name] for name in kept]
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert (status["hostIP"], status["hostIPs"]) == ("192.0.2.9", [{"ip": "192.0.2.9"}])
    conditions = {item["type"]: item.get("reason") for item in status["conditions"]}
    assert (conditions["Ready"], conditions["PodScheduled"]) == ("PodFailed", None)
    assert conditions["DisruptionTarget"] == "DeletionByTaintManager"
    assert (len(asked), world.live(), world.recorder.reasons().count("OutOfcpu")) == (1, [], 1)
    world.api.remove(pod)
    await world.until(lambda: world.record(pod) is None)


async def test_so_does_one_that_an_earlier_process_has_rejected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hold(world, monkeypatch)
    pod = world.api.add(world.pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "101"}}}]))
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    await world.settle()
    await world.crash()
    world.api.mark_deleting(pod, grace_s=0)
    await world.start()
    await world.until(lambda: len(asked) == 1)
    status = world.api.status(pod)
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
