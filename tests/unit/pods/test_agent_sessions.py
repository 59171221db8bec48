"""What a pod's agent says or does not say, and what it is sent, through the controller."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

import pytest

from vk_provider.jsontypes import Json
from vk_provider.pods import agent_events, state
from vk_provider.pods.record import PodRecord

from .rig import World

pytestmark = pytest.mark.usefixtures("quick")


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
    await world.until(lambda: not agent.events)
    world.recorder.held = []
    agent._event("Odd", "m", "", "2026-01-01T00:00:00Z")
    world.connector._channels[record.instance.instance_id].push(list(agent.events))
    await world.until(lambda: world.recorder.held)
    await world.settle()
    assert len(agent.events) == 1
    world.recorder.held[0]()
    await world.until(lambda: not agent.events)


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
