"""A pod's life through the controller, and everything that may come between."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

import pytest

from tests.launching import tags_of_pod
from vk_provider.cloud.base import InstancePage, LaunchRequest, offering_key
from vk_provider.errors import KubeApiError
from vk_provider.instances import links, missing, table
from vk_provider.jsontypes import Json
from vk_provider.pods import agent_events, controller, state
from vk_provider.pods.record import PodRecord

from .rig import NODE, OWNER, World
from .test_sweep import make_sweep


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "PENDING_STATUS_AFTER_S", 0.05)
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)


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


async def test_an_agents_late_word_does_not_revive_a_pod_that_was_concluded(world: World) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None and record.report.status is not None
    running = copy.deepcopy(record.report.status)
    world.api.delay_s = 0.05
    record.lost = "its agent did not answer"
    world.controller.wake(record.uid)
    await world.until(lambda: record.report.concluded)
    world.controller.agents.receive(
        record, {"type": "status", "podUID": record.uid, "status": {**running, "message": "late"}, "finished": False}
    )
    await world.until(lambda: world.api.history[-1] == "Failed")
    await world.settle()
    assert world.api.history[-1] == "Failed" and world.api.status(pod).get("message") != "late"


async def test_a_deletion_waits_for_an_agent_that_is_away_and_then_takes_the_instance(
    world: World, monkeypatch: Any
) -> None:
    pod = await world.running()
    world.connector.cut(world.live_of(pod)[0].instance_id)
    await asyncio.sleep(0.03)
    world.api.mark_deleting(pod, grace_s=0)
    await asyncio.sleep(0.1)
    assert world.api.pods and world.live()
    monkeypatch.setattr(state, "DELETION_OVERDUE_S", 0.0)
    world.controller.wake(pod["metadata"]["uid"])
    await world.until(lambda: not world.api.pods and not world.live())


async def test_an_agent_that_comes_back_ends_a_deleted_pod_by_its_own_rules(world: World) -> None:
    pod = await world.running()
    world.connector.cut(world.live_of(pod)[0].instance_id)
    world.api.mark_deleting(pod)
    await asyncio.sleep(0.05)
    world.connector.unreachable.clear()
    await world.until(lambda: not world.api.pods and not world.live())
    assert not any("Unknown" in str(patch) for patch in world.api.patches)


async def test_changed_references_are_sent_and_a_failure_to_resolve_them_is_repeated(world: World) -> None:
    pod = await world.running()
    uid = pod["metadata"]["uid"]
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.references.answer = {"errors": {}, "configMaps": {"c": {"data": {"k": "new"}}}}
    world.references.fail_once = ValueError("broken")
    world.references.subscribed[uid]()
    await world.until(lambda: any(message["type"] == "references" for message in received))
    world.references.subscribed[uid]()
    await world.settle()
    assert [message["type"] for message in received].count("references") == 1, "what is the same is not sent again"


async def test_what_a_pod_refers_to_is_read_while_its_instance_boots(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.references.resolved == 1)
    record = world.record(pod)
    assert record is not None and record.session is None and record.instance is not None


async def test_a_pod_deleted_while_its_references_are_read_leaves_nobody_reading(world: World) -> None:
    world.connector.unreachable.add("*")
    world.references.gate = asyncio.Event()
    pod = world.api.add(world.pod())
    await world.until(lambda: world.references.resolved == 1)
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("references ")]


async def test_a_session_that_replaced_another_is_given_everything(world: World) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None
    world.references.gate = asyncio.Event()
    world.references.subscribed[record.uid]()
    resolved = world.references.resolved
    await asyncio.sleep(0.02)
    assert world.references.resolved >= resolved
    old = record.session
    assert old is not None
    await old.close()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    await world.until(lambda: record.session not in (None, old))
    world.references.gate.set()
    await world.until(lambda: record.sent.fingerprint is not None)
    assert [message["type"] for message in received] == ["pod"] and received[0]["references"] == {"errors": {}}


def odd_event(record: PodRecord) -> Json:
    return {
        "type": "event",
        "seq": 10**18,
        "podUID": record.uid,
        "eventType": "Normal",
        "reason": "Odd",
        "message": "m",
        "fieldPath": "",
        "timestamp": "2026-01-01T00:00:00Z",
    }


async def test_repeated_events_are_recorded_once(world: World) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None
    world.controller.agents.receive(record, odd_event(record))
    world.controller.agents.receive(record, odd_event(record))
    assert world.recorder.reasons().count("Odd") == 1


async def test_an_agents_event_is_acknowledged_when_it_is_posted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_events, "ACK_DELAY_S", 0.0)
    pod = await world.running()
    record = world.record(pod)
    assert record is not None and record.instance is not None
    agent = world.connector._agents[record.instance.instance_id]
    await world.until(lambda: not agent._events)
    world.recorder.held = []
    agent._event("Odd", "m", "", "2026-01-01T00:00:00Z")
    world.connector._channels[record.instance.instance_id].push(list(agent._events))
    await world.until(lambda: world.recorder.held)
    await world.settle()
    assert len(agent._events) == 1
    world.recorder.held[0]()
    await world.until(lambda: not agent._events)


async def test_a_deletion_seen_while_adopting_ends_the_adopted_instance(world: World) -> None:
    pod = await world.running()
    await world.crash()
    instances = await world.start(adopt=False)
    world.api.remove(pod)
    await asyncio.sleep(0.02)
    world.controller.adopt(instances)
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []


async def test_a_stop_leaves_instances_and_no_tasks(world: World) -> None:
    pod = await world.running()
    before = {task for task in asyncio.all_tasks() if task.get_name().startswith(("session", "pod ", "renew"))}
    assert before
    await world.controller.close(1.0)
    after = {task for task in asyncio.all_tasks() if task.get_name().startswith(("session", "pod ", "renew"))}
    assert after == set()
    assert len(world.live_of(pod)) == 1


async def test_an_agent_that_lies_gets_an_event_and_nobody_else_notices(world: World) -> None:
    liar, honest = await world.running(), await world.running()
    record = world.record(liar)
    assert record is not None and record.instance is not None
    channel = world.connector._channels[record.instance.instance_id]
    channel.push([{"type": "status", "podUID": record.uid, "status": "Running", "finished": False}])
    await world.until(lambda: "AgentProtocolError" in world.recorder.reasons())
    assert record.session is None and record.owned is not None and record.owned.link.redial_at > time.monotonic()
    assert world.controller.count_phases() == {"Pending": 0, "Running": 2, "Succeeded": 0, "Failed": 0}
    other = world.record(honest)
    assert other is not None and other.session is not None


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
