"""The provider dies at every step between a pod's launch and its end; the next one finds what there is, on a cloud and
with agents that live on. Two pods of one group, so that no instance names its pod by a tag."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.pods.rig import World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.base import TAG_NAME, TAG_POD_NAME, TAG_POD_UID, InstancePage, LaunchRequest
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.instances import links, missing, table
from vk_provider.jsontypes import Json

POD_TAGS = (TAG_POD_UID, TAG_POD_NAME, TAG_NAME)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.05)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.02)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.1)


def add_two(world: World) -> list[Json]:
    return [world.api.add(world.pod()) for _ in range(2)]


async def crash_unpublished(world: World) -> tuple[list[Json], dict[str, str]]:
    """Two pods that their agents have, which the API server does not know; the pod's UID by instance."""
    world.api.delay_s = 1000.0
    pods = add_two(world)
    await world.until(lambda: sum(bool(agent.uid) for agent in world.connector._agents.values()) == 2)
    served = {instance_id: agent.uid for instance_id, agent in world.connector._agents.items()}
    await world.crash()
    world.api.delay_s = 0.0
    return pods, served


def phases(world: World, pods: list[Json]) -> set[str]:
    return {world.api.status(pod).get("phase", "") for pod in pods}


async def run_in_the_end(world: World, pods: list[Json], instances: int = 2) -> None:
    """Both run, each on one instance of its own, and no instance is left over."""

    def settled() -> bool:
        records = [world.record(pod) for pod in pods]
        return phases(world, pods) == {"Running"} and all(each and each.session for each in records)

    await world.until(settled)
    await world.settle()
    assert len(world.live()) == 2 and len(world.cloud._instances) == instances
    served = Counter(agent.uid for agent in world.connector._agents.values() if agent.uid)
    assert served == Counter(pod["metadata"]["uid"] for pod in pods), "nobody is served twice"
    for pod in pods:
        record = world.record(pod)
        assert record is not None and record.instance is not None
        assert world.connector._agents[record.instance.instance_id].uid == pod["metadata"]["uid"]


async def test_before_the_call(world: World) -> None:
    called = asyncio.Event()
    original = world.cloud.launch

    async def never(request: Any) -> Any:
        called.set()
        await asyncio.Event().wait()

    world.cloud.launch = never
    pods = add_two(world)
    await called.wait()
    await world.crash()
    world.cloud.launch = original
    await world.start()
    await run_in_the_end(world, pods)


async def test_after_the_call_and_before_its_answer(world: World) -> None:
    original = world.cloud.launch

    async def unanswered(request: Any) -> Any:
        await original(request)
        await asyncio.Event().wait()

    world.cloud.launch = unanswered
    pods = add_two(world)
    await world.until(lambda: len(world.live()) == 2)
    assert not any(TAG_POD_UID in instance.tags for instance in world.live()), "one call for both"
    await world.crash()
    world.cloud.launch = original
    await world.start()
    await run_in_the_end(world, pods)


async def test_after_the_answer_and_before_the_assignment(world: World) -> None:
    world.room.launches.on_launched = lambda brought, call: 0
    pods = add_two(world)
    await world.until(lambda: len(world.live()) == 2)
    await world.crash()
    await world.start()
    await run_in_the_end(world, pods)


async def test_after_the_pod_was_sent_and_before_the_agent_wrote_it_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    with monkeypatch.context() as patched:
        patched.setattr(SimulatedAgent, "receive", lambda agent, message, now: sent.append(message) or [])
        pods = add_two(world)
        await world.until(lambda: len(sent) == 2)
        await world.crash()
    await world.start()
    await run_in_the_end(world, pods)


async def test_after_the_agent_wrote_it_down(world: World) -> None:
    pods, served = await crash_unpublished(world)
    assert not any(world.api.status(pod).get("hostIP") for pod in pods)
    await world.start()
    await run_in_the_end(world, pods)
    assert {name: agent.uid for name, agent in world.connector._agents.items()} == served, "nothing has moved"


async def test_after_the_final_delete_and_before_the_instance_is_terminated(world: World) -> None:
    pods = add_two(world)
    await world.until(lambda: phases(world, pods) == {"Running"})
    original = world.cloud.terminate

    async def never(instance_ids: Any) -> Any:
        await asyncio.Event().wait()

    world.cloud.terminate = never
    world.api.mark_deleting(pods[0])
    await world.until(lambda: len(world.api.pods) == 1)
    await world.crash()
    world.cloud.terminate = original
    await world.start()
    await world.until(lambda: all(each.said_uid is not None for each in world.room.table.owned.values()))
    sweep = make_sweep(world)
    await sweep.sweep()
    assert len(await sweep.sweep()) == 1
    assert len(world.live()) == 1 and world.live() == world.live_of(pods[1])
    assert world.api.status(pods[1])["phase"] == "Running"


async def test_while_the_listing_lies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no tag ever named the pods: their statuses name the instances' addresses."""
    pods = add_two(world)
    await world.until(lambda: phases(world, pods) == {"Running"})
    await world.settle()
    await world.crash()
    visible, calls = world.cloud.list_page, 0

    async def empty(page: str = "") -> InstancePage:
        nonlocal calls
        calls += 1
        return InstancePage(())

    monkeypatch.setattr(world.cloud, "list_page", empty)
    await world.start()
    monkeypatch.setattr(world.cloud, "list_page", visible)
    await run_in_the_end(world, pods)
    assert calls >= 1
    assert not any(tag in instance.tags for instance in world.live() for tag in POD_TAGS)


async def test_a_tag_that_names_another_pod_than_the_agent_is_not_believed(world: World) -> None:
    """What a crash in the middle of a reassignment leaves: the two tags are the wrong way round."""
    world.api.delay_s = 1000.0
    pods = add_two(world)
    await world.until(lambda: sum(bool(agent.uid) for agent in world.connector._agents.values()) == 2)
    await world.crash()
    world.api.delay_s = 0.0
    (first, one), (second, other) = world.connector._agents.items()
    for instance_id, uid in ((first, other.uid), (second, one.uid)):
        instance = world.cloud._instances[instance_id]
        world.cloud._instances[instance_id] = replace(instance, tags={**instance.tags, TAG_POD_UID: uid})
    await world.start()
    await run_in_the_end(world, pods)
    assert {pod["metadata"]["uid"] for pod in pods} == {one.uid, other.uid}


async def test_a_pod_is_not_sent_to_an_empty_agent_by_a_tag_before_the_others_are_heard(world: World) -> None:
    """Late answers have crossed: the instance that has the pod is another one's by its tags, and answers second."""
    world.api.delay_s = 1000.0
    pod = world.api.add(world.pod())
    uid = pod["metadata"]["uid"]
    await world.until(lambda: any(agent.uid == uid for agent in world.connector._agents.values()))
    await world.crash()
    world.api.delay_s = 0.0
    (own,) = world.live()
    bare = {key: value for key, value in own.tags.items() if key not in POD_TAGS}
    offering = (await world.cloud.describe_offerings())[-1]
    (empty,) = (await world.cloud.launch(LaunchRequest("another", (offering,), dict(own.tags), "boot"))).instances
    world.cloud._instances[own.instance_id] = replace(own, tags={**bare, TAG_POD_UID: "of-one-that-is-gone"})
    world.connector.unreachable.add(own.instance_id)
    await world.start()
    await world.until(lambda: (record := world.record(pod)) is not None and record.session is not None)
    await world.settle()
    world.connector.unreachable.clear()
    await world.until(lambda: phases(world, [pod]) == {"Running"})
    assert {name for name, agent in world.connector._agents.items() if agent.uid} == {own.instance_id}
    assert empty.instance_id != own.instance_id


async def test_a_tag_of_the_launch_hides_no_pod_that_has_started(world: World) -> None:
    """The status names the instance, although the tags are those of the launch, the wrong way round."""
    pods = add_two(world)
    await world.until(lambda: phases(world, pods) == {"Running"})
    await world.settle()
    await world.crash()
    served = {instance_id: agent.uid for instance_id, agent in world.connector._agents.items()}
    for instance_id, uid in zip(served, reversed(served.values()), strict=True):
        instance = world.cloud._instances[instance_id]
        world.cloud._instances[instance_id] = replace(instance, tags={**instance.tags, TAG_POD_UID: uid})
    await world.start()
    await run_in_the_end(world, pods)
    assert {instance_id: agent.uid for instance_id, agent in world.connector._agents.items()} == served


async def test_an_agents_word_gives_no_instance_to_a_pod_of_another_namespace(world: World) -> None:
    pods = add_two(world)
    await world.until(lambda: phases(world, pods) == {"Running"})
    await world.crash()
    stranger = world.pod()
    stranger["metadata"]["namespace"] = "elsewhere"
    world.api.pods[("elsewhere", stranger["metadata"]["name"])] = stranger
    liar = next(iter(world.connector._agents.values()))
    victim = next(pod for pod in pods if pod["metadata"]["uid"] == liar.uid)
    del world.api.pods[("default", victim["metadata"]["name"])]
    liar.uid = stranger["metadata"]["uid"]
    await world.start()
    await world.until(lambda: world.api.status(stranger).get("phase") == "Running")
    record = world.record(stranger)
    assert record is not None and record.instance is not None
    assert record.instance.instance_id != liar.instance.instance_id
    assert record.instance.tags["vk-provider/pod-namespace"] == "elsewhere"


async def test_a_tag_of_a_pod_that_is_gone_hides_no_pod(world: World) -> None:
    """An instance was given to another pod than the one that it was launched for, and its tags have not changed yet."""
    pods, served = await crash_unpublished(world)
    (first, one), (second, _) = world.connector._agents.items()
    for instance_id, uid in ((first, "of a pod that is gone"), (second, one.uid)):
        instance = world.cloud._instances[instance_id]
        world.cloud._instances[instance_id] = replace(instance, tags={**instance.tags, TAG_POD_UID: uid})
    await world.start()
    await run_in_the_end(world, pods)
    assert {name: agent.uid for name, agent in world.connector._agents.items() if agent.uid} == served


async def test_a_pod_that_never_started_is_launched_anew_when_its_instance_has_ended_meanwhile(world: World) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(world.live)
    (instance,) = world.live()
    assert instance.tags[TAG_POD_UID] == pod["metadata"]["uid"]
    await world.crash()
    world.connector.unreachable.clear()
    pod["status"] = {"phase": "Pending", "hostIP": instance.primary_ip}
    world.cloud.vanish(instance.instance_id)
    await world.start()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert [each.instance_id for each in world.live()] != [instance.instance_id]


async def test_an_instance_that_ends_by_itself_after_its_pod_is_forgotten(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    (instance,) = world.live_of(pod)
    await world.crash()
    pod["status"] = {**world.api.status(pod), "phase": "Failed", "reason": "Evicted"}
    world.api.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])]["status"] = pod["status"]
    world.connector.unreachable.add("*")
    await world.start()
    world.cloud.vanish(instance.instance_id)
    await world.until(lambda: not world.room.table.owned)
    assert instance.instance_id in world.connector.forgotten


async def test_a_pod_whose_labels_have_changed_waits_for_instances_that_have_not_spoken(world: World) -> None:
    """Its demand is of another group than the instance that has it: that instance is no less likely to have it."""
    pods, served = await crash_unpublished(world)
    for pod in pods:
        metadata = pod["metadata"]
        world.api.pods[(metadata["namespace"], metadata["name"])]["metadata"]["labels"] = {"changed": "meanwhile"}
    world.connector.unreachable.add("*")
    await world.start()
    await asyncio.sleep(0.3)
    assert len(world.live()) == 2, "none is launched beside them"
    deleted = pods.pop()
    world.api.remove(deleted)
    world.connector.unreachable.clear()
    await world.until(lambda: all(world.api.status(pod).get("phase") == "Running" for pod in pods))
    (record,) = [record for pod in pods if (record := world.record(pod)) is not None]
    assert record.instance is not None
    assert served[record.instance.instance_id] == record.uid, "the pod has not moved"


@pytest.mark.parametrize("what", ["deadline", "deletion"])
async def test_a_pod_that_an_agent_may_have_which_has_not_greeted_yet_is_neither_failed_nor_forgotten(
    world: World, what: str
) -> None:
    """Its deadline is the agent's business, and its containers get their grace period."""
    pods, served = await crash_unpublished(world)
    subject = pods[0]
    (name,) = (name for name, uid in served.items() if uid == subject["metadata"]["uid"])
    stopped = world.connector.listen(name)
    if what == "deadline":
        held = world.api.pods["default", subject["metadata"]["name"]]
        held["spec"]["activeDeadlineSeconds"] = 50
        world.api.set_status(subject, startTime="2026-01-01T00:00:00Z")
    else:
        world.api.mark_deleting(subject)
    world.connector.unreachable.add("*")
    await world.start()
    await world.settle()
    assert world.api.status(subject).get("phase") == "Pending" and not stopped
    record = world.record(subject)
    assert record is not None and not record.report.concluded
    world.connector.unreachable.clear()
    if what == "deadline":
        await world.until(lambda: phases(world, pods) == {"Running"})
        assert {instance.instance_id for instance in world.live()} == set(served)
        return
    await world.until(lambda: world.record(subject) is None)
    assert stopped, "its agent was asked to stop it"


async def test_a_pod_that_no_agent_had_fails_at_its_deadline_once_all_have_spoken(world: World) -> None:
    pods, served = await crash_unpublished(world)
    late = world.pod(activeDeadlineSeconds=50)
    late["status"]["startTime"] = "2026-01-01T00:00:00Z"
    world.api.add(late)
    world.connector.unreachable.add("*")
    await world.start()
    await world.settle()
    assert world.api.status(late)["phase"] == "Pending"
    world.connector.unreachable.clear()
    await world.until(lambda: world.api.status(late)["phase"] == "Failed")
    await world.until(lambda: phases(world, pods) == {"Running"})
    assert {instance.instance_id for instance in world.live()} == set(served)
