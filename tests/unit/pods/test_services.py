"""How the Services of a pod's environment reach its agent: with the pod, then by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.pods.rig import World
from vk_provider.cloud.simulated.agent import SimulatedAgent

OLD, NEW = [{"name": "old"}], [{"name": "new"}]
Json = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.references.services.known = OLD
    made.references.answer = {"errors": {}, "secrets": {"s": {"data": {"k": "djE="}}}}
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def older_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents from before Services were sent apart."""
    greet = SimulatedAgent.hello

    def hello(agent: SimulatedAgent) -> list[Json]:
        first, *more = greet(agent)
        return [{name: value for name, value in first.items() if name != "features"}, *more]

    monkeypatch.setattr(SimulatedAgent, "hello", hello)


async def test_a_change_of_a_service_sends_the_services_and_no_secret(world: World) -> None:
    pod = await world.running()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    resolved = world.references.resolved
    world.references.services.change(NEW)
    await world.until(lambda: received)
    await world.settle()
    assert received == [{"type": "services", "services": NEW}]
    assert world.references.resolved == resolved


async def test_services_come_with_the_pod_when_it_is_sent(world: World) -> None:
    pod = await world.running()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.references.services.known = NEW
    world.connector._channels[world.live_of(pod)[0].instance_id].drop()  # a new session is sent everything
    await world.until(lambda: received)
    await world.settle()
    assert [(message["type"], message["services"]) for message in received] == [("pod", NEW)]
    assert "services" not in received[0]["references"]


async def test_a_change_that_this_pods_environment_does_not_show_sends_nothing(world: World) -> None:
    pod = await world.running()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.references.services.change(list(OLD))
    await world.settle()
    assert received == []


async def test_a_pod_that_was_sent_before_the_services_were_known_gets_them_then(world: World) -> None:
    world.references.services.known = None
    pod = await world.running()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.references.services.change(NEW)
    await world.until(lambda: received)
    assert received == [{"type": "services", "services": NEW}]


@pytest.mark.usefixtures("older_agents")
async def test_an_older_agent_still_gets_them_within_its_references(world: World) -> None:
    pod = await world.running()
    received = world.connector.listen(world.live_of(pod)[0].instance_id)
    world.references.services.change(NEW)
    await world.until(lambda: received)
    await world.settle()
    assert received == [{"type": "references", "references": {**world.references.answer, "services": NEW}}]
    world.references.answer["secrets"] = {}
    world.references.subscribed[pod["metadata"]["uid"]]()
    await world.until(lambda: len(received) == 2)
    assert received[1]["references"] == {"errors": {}, "secrets": {}, "services": NEW}
