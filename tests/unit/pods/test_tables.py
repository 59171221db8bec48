"""Tables and the pods whose instances are sent them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agentclient.test_tables import Source
from tests.unit.pods.rig import World, tell_after_greeting
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.eventreasons import TABLE_FAILED
from vk_provider.wire.tables import TABLES_FEATURE

Json = dict[str, Any]
SERVICES = {"table": "services"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    source = TextSource("a")
    made.tables = [source]
    await made.start()
    yield made
    await made.stop()


class TextSource(Source):
    """Texts that the agents of the simulated cloud understand."""

    async def text_from(self, base: str, *, packed: bool = False) -> Any:
        text = await super().text_from(base, packed=packed)
        if text is None:
            return None
        frame = f'{{"type":"table","name":"{self.name}","base":"{text.base}","revision":"{text.revision}","text":""}}'
        return type(text)(text.base, text.revision, frame.encode())


def agent_of(world: World, pod: Json) -> SimulatedAgent:
    return world.connector._agents[world.live_of(pod)[0].instance_id]


def source_of(world: World) -> Source:
    source = world.tables[0]
    assert isinstance(source, Source)
    return source


async def test_an_instance_has_the_table_and_its_agent_knows_that_it_must_wait_for_it(world: World) -> None:
    received: list[Json] = []
    original = SimulatedAgent.receive

    def receive(agent: SimulatedAgent, message: Json, now: str) -> list[Json]:
        received.append(message)
        return original(agent, message, now)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SimulatedAgent, "receive", receive)
        pod = await world.running()
        await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    [sent] = [message for message in received if message["type"] == "pod"]
    assert sent["node"]["tables"] == ["services"]


async def test_a_change_reaches_instances_as_a_difference(world: World) -> None:
    pod = await world.running()
    await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    source_of(world).publish("b")
    await world.until(lambda: agent_of(world, pod).tables == {"services": "b"})
    assert [(message["base"], message["revision"]) for message in received] == [("a", "b")]


async def test_after_a_reconnect_nothing_is_sent_that_the_agent_has(world: World) -> None:
    pod = await world.running()
    await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.connector._channels[world.live_of(pod)[0].instance_id].drop()
    await world.until(lambda: received)
    await world.settle()
    assert [message["type"] for message in received] == ["pod"]


async def test_an_agent_without_tables_is_sent_none_and_waits_for_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    greet = SimulatedAgent.hello

    def hello(agent: SimulatedAgent) -> list[Json]:
        first, *more = greet(agent)
        return [{**first, "features": []}, *more]

    monkeypatch.setattr(SimulatedAgent, "hello", hello)
    pod = await world.running()
    await world.settle()
    record = world.record(pod)
    assert record is not None and record.tables == [] and agent_of(world, pod).tables == {}


@pytest.mark.parametrize("takes", [True, False])
async def test_an_agent_is_asked_for_its_form_of_the_table(
    world: World, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    """An earlier agent, which was adopted, reads text alone."""
    if not takes:
        tell_after_greeting(monkeypatch, [TABLES_FEATURE])
    pod = await world.running()
    await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    assert set(source_of(world).packed) == {takes}


async def test_a_table_that_an_agent_does_not_apply_is_an_event_on_its_pod_which_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(agent: SimulatedAgent, name: str, base: str, revision: str) -> list[Json]:
        return [{"type": "tables", "tables": {}, "name": name, "error": "no\nnft " + "x" * 900}]

    monkeypatch.setattr(SimulatedAgent, "_on_table", refuse)
    pod = await world.running()
    await world.until(lambda: TABLE_FAILED in world.recorder.reasons())
    message = dict(world.recorder.events)[TABLE_FAILED]
    assert "the table of Services is not in force: no?nft xxx" in message and len(message) < 300
    record = world.record(pod)
    assert record is not None and record.session is not None and record.exists
    registry = world.controller.agents._tables.metrics._registry
    assert (registry.get_sample_value("vk_table_failures_total", SERVICES) or 0) >= 1


async def test_a_flow_ends_with_its_session(world: World) -> None:
    pod = await world.running()
    assert len(source_of(world).followers) == 1
    world.connector.cut(world.live_of(pod)[0].instance_id)
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.session is None)
    assert source_of(world).followers == [] and record.tables == []


async def test_metrics_tell_of_agents_that_are_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = await world.running()
    await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    value = world.controller.agents._tables.metrics._registry.get_sample_value
    await world.until(lambda: value("vk_table_applied_seconds_count", SERVICES) == 1)
    assert value("vk_tables_behind", SERVICES) == 0
    assert (value("vk_table_sent_bytes_total", {**SERVICES, "kind": "whole"}) or 0) > 0
    monkeypatch.setattr(SimulatedAgent, "_on_table", lambda *_: [])
    source_of(world).publish("b")
    await world.settle()
    assert value("vk_tables_behind", SERVICES) == 1


async def test_an_idle_instance_that_is_given_to_a_pod_has_the_tables_too(world: World) -> None:
    """Its agent has greeted before."""
    world.room.launches.on_launched = lambda brought, group: 0
    gone = world.api.add(world.pod())
    await world.until(world.live)
    await world.crash()
    world.api.remove(gone)
    await world.start()
    await world.until(lambda: [each.said_uid for each in world.room.table.owned.values()] == [""])
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod) and agent_of(world, pod).uid == pod["metadata"]["uid"])
    await world.until(lambda: agent_of(world, pod).tables == {"services": "a"})
    assert len(world.live()) == 1
