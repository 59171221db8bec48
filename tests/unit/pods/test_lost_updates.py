"""Others write into the status, too: what the API server holds is compared with what it should, whatever came first."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.pods.status_patch import as_sent, find_altered

from .rig import World


def ready(world: World, pod: Json) -> str:
    return str(next(item for item in world.api.status(pod)["conditions"] if item["type"] == "Ready")["status"])


def report(world: World, pod: Json, **fields: Any) -> PodRecord:
    """The agent's newest status."""
    record = world.record(pod)
    assert record is not None and record.status is not None
    status = {**copy.deepcopy(record.status), **fields}
    world.controller.receive(record, {"type": "status", "podUID": record.uid, "status": status, "finished": False})
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


@pytest.mark.parametrize("name", ["containerStatuses", "podIP", "podIPs", "hostIP", "conditions"])
async def test_a_field_that_another_writer_takes_away_comes_back(world: World, name: str) -> None:
    pod = await world.running()
    await world.settle()
    before = copy.deepcopy(world.api.status(pod))
    world.api.unset_status(pod, name)
    await world.until(lambda: world.api.status(pod).get(name))
    await world.settle()
    if name != "conditions":
        assert world.api.status(pod)[name] == before[name]
    else:
        states = {item["type"]: item["status"] for item in world.api.status(pod)[name]}
        assert states["Ready"] == "True"


async def test_a_phase_that_another_writer_sets_back_is_put_right(world: World) -> None:
    pod = await world.running()
    world.api.set_status(pod, phase="Pending")
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")


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
    assert record is not None and record.published is not None
    old = copy.deepcopy(record.pod)
    patches = len(world.api.patches)
    old["metadata"]["resourceVersion"] = str(record.published_version - 1)
    old["status"] = {"phase": "Pending"}
    world.controller.on_pod(record.node, "MODIFIED", old)
    await world.settle()
    assert len(world.api.patches) == patches and record.published["phase"] == "Running"


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
