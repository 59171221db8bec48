"""What an agent says decides nothing that it could not prove: whoever controls an instance gets no pod by it that the
provider did not give to that instance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.instances.pooled import filled, make_world
from tests.unit.instances.test_crashes import crash_unpublished, phases
from tests.unit.instances.test_pools import SMALL
from tests.unit.pods.rig import MASTER, World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.agentclient.grants import Grants
from vk_provider.agentclient.session import AgentSession
from vk_provider.cloud.base import TAG_POD_UID, Instance, LaunchAnswer, LaunchRequest
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.errors import CloudAccessError, CloudThrottledError
from vk_provider.instances import links, missing, refusals, table, tagging
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import MAX_ATTEMPTS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.05)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.02)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.1)
    monkeypatch.setattr(tagging, "DELAY_S", 100.0)
    monkeypatch.setattr(tagging, "MARK_FIRST_S", 0.02)
    monkeypatch.setattr(tagging, "MARK_MAX_S", 0.02)


def agent_of(world: World, pod: Json) -> SimulatedAgent:
    (instance,) = world.live_of(pod)
    return world.connector._agents[instance.instance_id]


def record_of(world: World, pod: Json) -> PodRecord:
    record = world.record(pod)
    assert record is not None
    return record


async def runs_elsewhere(world: World, victim: Json, liar: SimulatedAgent, received: Sequence[Json]) -> None:
    await world.until(lambda: world.api.status(victim).get("phase") == "Running")
    instance = record_of(world, victim).instance
    assert instance is not None and instance.instance_id != liar.instance.instance_id
    pods = [message["pod"]["metadata"]["uid"] for message in received if message["type"] == "pod"]
    assert victim["metadata"]["uid"] not in pods


@pytest.mark.parametrize("shows", ["nothing", "its own grant", "another provider's"])
async def test_who_controls_an_instance_cannot_claim_a_waiting_pod_of_its_namespace(world: World, shows: str) -> None:
    """Of another service account, say. The pod that the instance had is gone."""
    own = await world.running()
    liar = agent_of(world, own)
    received = world.connector.listen(liar.instance.instance_id)
    await world.crash()
    world.api.remove(own)
    victim = world.api.add(world.pod(serviceAccountName="powerful"))
    liar.uid = victim["metadata"]["uid"]
    other = Grants(lambda: ["00" * 32]).sign(liar.instance.instance_id, liar.uid)
    liar.grant = {"nothing": "", "its own grant": liar.grant, "another provider's": other}[shows]
    await world.start()
    await runs_elsewhere(world, victim, liar, received)
    await world.until(lambda: liar.instance.instance_id not in {each.instance_id for each in world.live()})


async def test_who_controls_the_instance_of_a_pod_cannot_have_a_second_one(world: World) -> None:
    own = await world.running()
    liar = agent_of(world, own)
    received = world.connector.listen(liar.instance.instance_id)
    await world.crash()
    victim = world.api.add(world.pod())
    liar.uid = victim["metadata"]["uid"]
    await world.start()
    await runs_elsewhere(world, victim, liar, received)
    await world.until(lambda: world.api.status(own).get("phase") == "Failed")


async def test_an_unused_pod_of_an_instance_whose_agent_names_another_gets_its_own(world: World) -> None:
    """The instance was given to the first by its tag alone: a pod that has not run there is not failed for it."""
    world.connector.unreachable.add("*")
    own = world.api.add(world.pod())
    await world.until(lambda: len(world.live()) == 1)
    (first,) = world.live()
    await world.crash()
    victim = world.api.add(world.pod())
    liar = SimulatedAgent(first, "2026-01-01T00:00:00Z")
    liar.uid = victim["metadata"]["uid"]
    world.connector._agents[first.instance_id] = liar
    received = world.connector.listen(first.instance_id)
    world.connector.unreachable.clear()
    await world.start()
    await runs_elsewhere(world, victim, liar, received)
    await runs_elsewhere(world, own, liar, received)
    assert received == []


async def test_a_pod_whose_instances_all_name_another_is_failed_as_if_they_did_not_boot(
    world: World,
) -> None:
    """Each costs money."""
    victim = await world.running()
    original = world.connector.open_session

    async def open_session(instance: Instance, *, fresh: bool = True) -> AgentSession:
        agent = SimulatedAgent(instance, "2026-01-01T00:00:00Z")
        agent.uid = victim["metadata"]["uid"]
        world.connector._agents.setdefault(instance.instance_id, agent)
        return await original(instance, fresh=fresh)

    world.connector.open_session = open_session
    before = len(world.cloud._instances)
    own = world.api.add(world.pod())
    await world.until(lambda: world.api.status(own).get("phase") == "Failed")
    assert len(world.cloud._instances) - before == MAX_ATTEMPTS
    assert world.api.status(victim)["phase"] == "Running"


async def test_who_says_that_its_instance_is_empty_gets_no_pod_that_may_read_more(world: World) -> None:
    own = await world.running()
    liar = agent_of(world, own)
    received = world.connector.listen(liar.instance.instance_id)
    await world.crash()
    world.api.remove(own)
    secret = {"name": "s", "secret": {"secretName": "more"}}
    victims = [world.pod(serviceAccountName="powerful"), world.pod(volumes=[secret])]
    for victim in victims:
        world.api.add(victim)
    liar.uid, liar.grant = "", ""
    await world.start()
    for victim in victims:
        await runs_elsewhere(world, victim, liar, received)


async def test_what_was_sent_to_an_instance_is_remembered_over_its_sessions(world: World) -> None:
    """The pod was sent, the agent breaks off twice without a word, and the pod is deleted: nobody else gets it."""
    sent: list[Json] = []
    original = SimulatedAgent.receive
    SimulatedAgent.receive = lambda agent, message, now: sent.append(message) or []
    try:
        pod = world.api.add(world.pod())
        await world.until(lambda: sent)
        (instance,) = world.live_of(pod)
        owned = record_of(world, pod).owned
        assert owned is not None
        hello, SimulatedAgent.hello = SimulatedAgent.hello, lambda agent: []
        before = owned.link.sessions
        world.connector._channels.pop(instance.instance_id).drop()
        await world.until(lambda: owned.link.sessions > before and owned.link.session is not None)
        assert owned.sent.fingerprint is None, "of this session"
        world.connector.cut(instance.instance_id)
        SimulatedAgent.hello = hello
    finally:
        SimulatedAgent.receive = original
    liar, received = world.connector._agents[instance.instance_id], world.connector.listen(instance.instance_id)
    may_launch, launch = asyncio.Event(), world.cloud.launch

    async def late(request: LaunchRequest) -> LaunchAnswer:
        await may_launch.wait()
        return await launch(request)

    world.cloud.launch = late
    next_one = world.api.add(world.pod())
    await world.until(lambda: (record := world.record(next_one)) and record.assignment.demand)
    world.api.remove(pod)
    world.connector.unreachable.clear()
    await world.until(lambda: instance.instance_id not in {each.instance_id for each in world.live()})
    may_launch.set()
    await runs_elsewhere(world, next_one, liar, received)


# --- agents of an earlier version, which show no grant ----------------------------------------------------------------


@pytest.mark.parametrize("witness", ["status", "tag"])
async def test_an_agent_without_a_grant_keeps_its_pod_by_the_pods_status_or_the_tag(world: World, witness: str) -> None:
    pods, served = await crash_unpublished(world)
    for instance_id, agent in world.connector._agents.items():
        agent.grant = ""
        instance = world.cloud._instances[instance_id]
        if witness == "tag":
            tags = {**instance.tags, TAG_POD_UID: agent.uid}
            world.cloud._instances[instance_id] = replace(instance, tags=tags)
        pod = next(pod for pod in pods if pod["metadata"]["uid"] == agent.uid)
        if witness == "status":
            stored = world.api.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])]
            stored["status"] = {"phase": "Pending", "hostIP": instance.primary_ip, "podIP": instance.pod_ip}
    await world.start()
    await world.until(lambda: phases(world, pods) == {"Running"})
    assert {name: agent.uid for name, agent in world.connector._agents.items()} == served, "nothing has moved"


async def test_without_any_proof_it_ends_and_only_then_its_pod_is_launched_for(world: World) -> None:
    pods, served = await crash_unpublished(world)
    for agent in world.connector._agents.values():
        agent.grant = ""
    may_end = asyncio.Event()
    original = world.cloud.terminate

    async def late(instance_ids: Sequence[str]) -> object:
        await may_end.wait()
        return await original(instance_ids)

    world.cloud.terminate = late
    await world.start()
    await asyncio.sleep(0.3)
    assert set(world.cloud._instances) == set(served), "the pods may run there"
    may_end.set()
    await world.until(lambda: phases(world, pods) == {"Running"})
    assert not {each.instance_id for each in world.live()} & set(served)
    assert len(world.cloud._instances) == 4


async def test_an_end_that_is_not_accepted_holds_a_pod_for_a_while_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "WAIT_S", 0.3)
    pods, served = await crash_unpublished(world)
    for agent in world.connector._agents.values():
        agent.grant = ""

    async def refuse(instance_ids: Sequence[str]) -> object:
        return [CloudAccessError("UnauthorizedOperation: no")] * len(instance_ids)

    world.cloud.terminate = refuse
    await world.start()
    await world.until(lambda: phases(world, pods) == {"Running"})
    assert len(world.live()) == 4 and set(served) <= set(world.room.ends.pending)


async def test_an_adopted_agent_is_given_the_grant_of_its_pod(world: World) -> None:
    pod = await world.running()
    agent = agent_of(world, pod)
    await world.crash()
    agent.grant = ""
    await world.start()
    await world.until(lambda: agent.grant)
    assert Grants(lambda: [MASTER]).is_genuine(agent.grant, agent.instance.instance_id, agent.uid)


async def test_a_liar_without_a_pod_is_not_kept_by_a_pod_that_waits_for_ever(world: World) -> None:
    own = await world.running()
    liar = agent_of(world, own)
    await world.crash()
    world.api.remove(own)
    waiting = world.pod()
    waiting["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    world.api.add(waiting)
    liar.uid, liar.grant = waiting["metadata"]["uid"], ""
    await world.start()
    sweep = make_sweep(world)
    await world.until(lambda: not world.room.supply.unclaimed)
    for _ in range(2):
        await sweep.sweep()
    await world.until(lambda: liar.instance.instance_id not in {each.instance_id for each in world.live()})


# --- pools ------------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_to_an_instance_of_a_pool_before_its_tags_say_that_it_is_taken(tmp_path: Path) -> None:
    """With the tags of its launch its agent would be believed, after a restart, that it is empty, and any namespace's
    pod could be given to it."""
    world = await make_world(tmp_path, replace(SMALL, count=1))
    (instance,) = await filled(world, 1)
    received = world.connector.listen(instance.instance_id)
    problems = [CloudThrottledError("slower"), CloudAccessError("UnauthorizedOperation: no")]
    tried: list[Mapping[str, str]] = []
    original = world.cloud.create_tags
    go_on = asyncio.Event()

    async def create_tags(instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        tried.append(tags)
        if problems:
            raise problems.pop(0)
        await go_on.wait()
        await original(instance_ids, tags)

    world.cloud.create_tags = create_tags
    pod = world.api.add(world.pod())
    await world.until(lambda: len(tried) == 3)
    await asyncio.sleep(0.1)
    assert received == [] and "FailedLaunch" in world.recorder.reasons()
    go_on.set()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert world.cloud._instances[instance.instance_id].tags[TAG_POD_UID] == pod["metadata"]["uid"]
    await world.stop()


async def test_an_instance_of_a_pool_that_was_not_marked_before_a_crash_is_marked_after_it(tmp_path: Path) -> None:
    """The pod's status names it, since it is published before the pod is sent."""
    world = await make_world(tmp_path, replace(SMALL, count=1))
    (instance,) = await filled(world, 1)
    received = world.connector.listen(instance.instance_id)
    original = world.cloud.create_tags

    async def refuse(instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        raise CloudThrottledError("slower")

    world.cloud.create_tags = refuse
    pod = world.api.add(world.pod())
    await world.until(lambda: bool(world.api.status(pod).get("hostIP")))
    await world.crash()
    await world.start()
    await asyncio.sleep(0.2)
    assert received == []
    world.cloud.create_tags = original
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert world.cloud._instances[instance.instance_id].tags[TAG_POD_UID] == pod["metadata"]["uid"]
    await world.stop()


async def test_a_pod_is_deleted_while_its_instance_of_a_pool_cannot_be_marked(tmp_path: Path) -> None:
    world = await make_world(tmp_path, replace(SMALL, count=1))
    await filled(world, 1)

    async def refuse(instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        raise CloudAccessError("UnauthorizedOperation: no")

    world.cloud.create_tags = refuse
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    world.api.mark_deleting(pod)
    await world.until(lambda: not world.api.pods)
    await filled(world, 1)
    await world.stop()
