"""Others write into the status, too: what the API server holds is compared with what it should, whatever came first."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import compute_state, next_look_s
from vk_provider.pods.status_patch import as_sent, find_altered, owned_status
from vk_provider.pods.status_publisher import note_held

from .rig import NODE, World


def ready(world: World, pod: Json) -> str:
    return str(next(item for item in world.api.status(pod)["conditions"] if item["type"] == "Ready")["status"])


def report(world: World, pod: Json, **fields: Any) -> PodRecord:
    """The agent's newest status."""
    record = world.record(pod)
    assert record is not None and record.report.status is not None
    status = {**copy.deepcopy(record.report.status), **fields}
    world.controller.agents.receive(
        record, {"type": "status", "podUID": record.uid, "status": status, "finished": False}
    )
    return record


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_ready_that_another_writer_takes_while_a_patch_is_under_way_is_told_again(
    world: World, moment: str
) -> None:
    pod = await world.running()
    setattr(world.api, moment, lambda: world.api.set_condition(pod, "Ready", status="False", reason="NodeNotReady"))
    report(world, pod, message="something else")
    await world.until(lambda: world.api.status(pod).get("message") == "something else")
    await world.until(lambda: ready(world, pod) == "True")
    await world.settle()
    assert ready(world, pod) == "True"


OURS = ("containerStatuses", "podIP", "podIPs", "hostIP", "hostIPs", "startTime", "conditions", "observedGeneration")


def told(world: World, pod: Json) -> Json:
    """The status without what only others write, and without times of conditions."""
    status = owned_status(copy.deepcopy(world.api.status(pod)))
    status["conditions"] = sorted(
        (
            {k: v for k, v in item.items() if v is not None and k != "lastTransitionTime"}
            for item in status["conditions"]
        ),
        key=lambda item: str(item["type"]),
    )
    return status


@pytest.mark.parametrize("names", [*((name,) for name in OURS), OURS, ("podIP", "podIPs", "containerStatuses")])
async def test_fields_that_another_writer_takes_away_come_back(world: World, names: tuple[str, ...]) -> None:
    """needsReconcile of the kubelet's status manager compares all that a kubelet writes."""
    pod = await world.running()
    await world.settle()
    before = told(world, pod)
    world.api.unset_status(pod, *names)
    assert not any(name in world.api.status(pod) for name in names)
    await world.until(lambda: all(name in world.api.status(pod) for name in names))
    await world.settle()
    assert told(world, pod) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"phase": "Pending"},
        {"phase": "Unknown", "reason": "NodeLost", "message": "m"},
        {"reason": "Odd"},
        {"message": "m"},
        {"hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}]},
        {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]},
        {"startTime": "2020-01-01T00:00:00Z"},
        {"observedGeneration": 99},
        {"containerStatuses": [{"name": "other", "ready": True}]},
        {"initContainerStatuses": [{"name": "other", "ready": True}]},
        {"ephemeralContainerStatuses": [{"name": "other", "ready": True}]},
        {"resize": "Infeasible"},
        {"conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "Unknown"}]},
        {"conditions": [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]},
    ],
)
async def test_what_another_writer_sets_is_put_right(world: World, fields: Json) -> None:
    pod = await world.running()
    await world.settle()
    before, patches = told(world, pod), len(world.api.patches)
    world.api.set_status(pod, **fields)
    await world.until(lambda: len(world.api.patches) > patches)
    await world.settle()
    assert told(world, pod) == before
    assert len(world.api.patches) == patches + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"qosClass": "Guaranteed"},
        {"nominatedNodeName": "n"},
        {"resourceClaimStatuses": [{"name": "c"}]},
        {"conditions": [{"type": "example.com/Gate", "status": "True"}]},
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
    ],
)
async def test_what_only_others_write_is_left_alone(world: World, fields: Json) -> None:
    pod = await world.running()
    await world.settle()
    patches, conditions = len(world.api.patches), world.api.status(pod)["conditions"]
    if "conditions" in fields:
        fields = {"conditions": [*conditions, *fields["conditions"]]}
    world.api.set_status(pod, **fields)
    await world.settle()
    assert len(world.api.patches) == patches
    assert world.api.status(pod)[next(iter(fields))] == next(iter(fields.values()))


async def test_two_writers_who_correct_each_other_do_so_every_ten_seconds(world: World) -> None:
    """The first correction comes at once, the next with the interval of the kubelet's status manager."""
    pod = await world.running()
    await world.settle()
    world.api.set_status(pod, phase="Pending")
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")
    await world.settle()
    world.api.set_status(pod, phase="Pending")
    await world.settle()
    assert world.api.status(pod)["phase"] == "Pending"
    record = world.record(pod)
    assert record is not None
    now = record.publication.restored_at
    seen = compute_state(record, now + 9.9, 40.0)
    assert seen.status.published
    assert next_look_s(record, seen, now + 9.0, now + 9.0, 40.0) == pytest.approx(1.0)
    assert next_look_s(record, seen, now + 9.9, now + 10.1, 40.0) == 0.0, "due since the state was computed"
    assert not compute_state(record, now + 10.0, 40.0).status.published
    report(world, pod, message="news of the agent")
    await world.until(lambda: world.api.status(pod).get("message") == "news of the agent")
    assert world.api.status(pod)["phase"] == "Running", "what is told anyway is told as a whole"


async def test_what_the_api_server_keeps_in_another_form_is_not_sent_again_and_again(world: World) -> None:
    def canonical(status: Json) -> Json:
        if status.get("allocatedResources"):
            status["allocatedResources"] = {"cpu": "1"}
        status["conditions"] = [{**item, "observedGeneration": 7} for item in status.get("conditions") or []]
        return status

    world.api.normalize = canonical
    pod = await world.running()
    report(world, pod, allocatedResources={"cpu": "1000m"})
    await world.until(lambda: world.api.status(pod).get("allocatedResources"))
    await world.settle()
    patches = len(world.api.patches)
    for number in range(3):
        world.api.set_status(pod, qosClass=f"Other{number}")
        await world.settle()
    assert len(world.api.patches) == patches
    report(world, pod, allocatedResources={"cpu": "2000m"})
    await world.until(lambda: len(world.api.patches) > patches)
    assert world.api.patches[-1] == {"allocatedResources": {"cpu": "2000m"}}


async def test_a_watch_event_that_is_older_than_the_answer_is_no_news(world: World) -> None:
    pod = await world.running()
    await world.settle()
    record = world.record(pod)
    assert record is not None and record.publication.held is not None
    old = copy.deepcopy(record.pod)
    patches = len(world.api.patches)
    old["metadata"]["resourceVersion"] = str(record.publication.version - 1)
    old["status"] = {"phase": "Pending"}
    world.controller.on_pod(record.node, "MODIFIED", old)
    await world.settle()
    assert len(world.api.patches) == patches and record.publication.held["phase"] == "Running"


def test_only_what_a_patch_named_counts_as_altered() -> None:
    sent = {"phase": "Running", "resources": {"cpu": "1000m"}, "reason": "a"}
    held = {"phase": "Running", "resources": {"cpu": "1"}, "reason": "b"}
    altered = find_altered({"phase": "Running", "resources": {"cpu": "1000m"}}, sent, held)
    assert altered == {("resources", ""): ({"cpu": "1000m"}, {"cpu": "1"})}
    assert as_sent(held, altered) == {**held, "resources": {"cpu": "1000m"}}
    changed = {**held, "resources": {"cpu": "3"}}
    assert as_sent(changed, altered) == changed, "another writer's value is no form of ours"


def test_a_condition_that_the_api_server_completes_is_as_sent() -> None:
    sent = {"conditions": [{"type": "Ready", "status": "True"}]}
    held = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1, "lastProbeTime": None}]}
    altered = find_altered({"conditions": sent["conditions"]}, sent, held)
    assert as_sent(held, altered) == sent
    assert find_altered({}, sent, held) == {}


async def test_the_event_of_our_own_patch_is_no_work_but_a_change_that_a_list_shows_with_it_is(world: World) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None
    await world.settle()
    held = copy.deepcopy(world.api.pods[("default", pod["metadata"]["name"])])
    assert int(held["metadata"]["resourceVersion"]) == record.publication.version
    world.controller.on_pod(NODE, "MODIFIED", copy.deepcopy(held))
    assert not world.controller._workers and record.pod == held
    held["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
    world.controller.on_pod(NODE, "MODIFIED", held)
    await world.until(lambda: world.record(pod) is None)
    assert world.live() == []


async def test_a_status_of_another_that_came_with_the_answer_to_our_patch_is_put_right_after_a_list(
    world: World,
) -> None:
    """The watch was lost meanwhile: only the newest version is seen."""
    pod = await world.running()
    record = world.record(pod)
    assert record is not None
    await world.settle()
    held = copy.deepcopy(world.api.pods[("default", pod["metadata"]["name"])])
    next(each for each in held["status"]["conditions"] if each["type"] == "Ready")["status"] = "False"
    note_held(record, held)
    world.controller.on_pod(NODE, "MODIFIED", held)
    assert world.controller._workers, "it is work, though nothing but the status has changed"
