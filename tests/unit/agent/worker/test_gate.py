"""Containers wait for the tables that the Node names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from tests.unit.agent.worker.timeloop import run
from tests.unit.agent.worker.workerrig import Rig, Tables, WorkerRig
from vk_provider.agent.worker.errors import InterruptedByStop
from vk_provider.agent.worker.gate import StartGate
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.eventreasons import NETWORK_NOT_READY

TABLES = ["services", "policy"]


def name_tables(world: WorkerRig, *late: str) -> None:
    world.memory.node = {**world.memory.node, "tables": TABLES}
    world.tables.late = {name: "it was not sent yet" for name in late}


async def begin(world: WorkerRig) -> asyncio.Task[float | None]:
    """A pass, until it waits for a table or is over."""
    passing = asyncio.create_task(world.pass_())
    await wait(world, passing)
    return passing


async def wait(world: WorkerRig, passing: asyncio.Task[float | None]) -> None:
    waiting = asyncio.create_task(world.tables.waited_for.wait())
    await asyncio.wait({passing, waiting}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


@pytest.mark.parametrize("init", [[], [container("before")]])
async def test_no_container_starts_before_each_table_was_in_force(rig: Rig, init: list[Any]) -> None:
    world = rig(pod(container("main"), init=init))
    name_tables(world, *TABLES)
    passing = await begin(world)
    for name in TABLES:
        assert not passing.done() and world.runtime.sandboxes and world.runtime.containers == {}
        world.tables.apply(name)
        await wait(world, passing)
    await passing
    (started,) = world.runtime.containers.values()
    assert started.metadata.name == ("before" if init else "main")


async def test_tables_that_are_in_force_or_not_named_are_not_waited_for(rig: Rig) -> None:
    world = rig(pod(container("main")))
    name_tables(world)
    await asyncio.wait_for(world.start(), 30)
    assert len(world.runtime.containers) == 1
    other = rig(pod(container("main")))
    other.tables.late = {"services": "it was not sent yet"}  # the Node names none
    await asyncio.wait_for(other.start(), 30)
    assert len(other.runtime.containers) == 1


async def test_a_stop_ends_the_wait(rig: Rig) -> None:
    world = rig(pod(container("main")))
    name_tables(world, "policy")
    passing = await begin(world)
    world.run._stop.set()
    with pytest.raises(InterruptedByStop):
        await passing
    assert world.runtime.containers == {}


class Sink:
    """When which event was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str, str]] = []

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.seen.append((asyncio.get_running_loop().time(), event_type, reason, message))


def make_gate(tables: Tables, sink: Sink) -> tuple[StartGate, PodMemory]:
    node: Any = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": "", "tables": TABLES}
    memory = PodMemory.from_message({"type": "pod", "pod": pod(), "references": {}, "node": node})
    return StartGate(tables, memory, Recorder(sink, "u1")), memory


def test_a_table_that_is_late_is_told_after_some_seconds_and_then_again_ever_later() -> None:
    async def wait() -> list[tuple[float, str, str, str]]:
        tables, sink = Tables(), Sink()
        tables.late = {"policy": "nft: no such thing"}
        gate, _ = make_gate(tables, sink)
        waiting = asyncio.create_task(gate.wait())
        await asyncio.sleep(200)
        assert not waiting.done()
        tables.apply("policy")
        await waiting
        return sink.seen

    seen = run(wait())
    assert {(kind, reason) for _, kind, reason, _ in seen} == {("Warning", NETWORK_NOT_READY)}
    assert {text for *_, text in seen} == {
        "network is not ready: the table of NetworkPolicies is not in force: nft: no such thing"
    }
    times = [time_s for time_s, *_ in seen]
    assert times[0] == 3 and 4 <= len(times) <= 8
    pauses = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert pauses == sorted(pauses)


def test_facts_without_the_names_end_the_wait() -> None:
    async def wait() -> float:
        tables = Tables()
        tables.late = {"services": "it was not sent yet"}
        gate, memory = make_gate(tables, Sink())
        waiting = asyncio.create_task(gate.wait())
        await asyncio.sleep(1)
        memory.node = {key: value for key, value in memory.node.items() if key != "tables"}
        await waiting
        return asyncio.get_running_loop().time()

    assert run(wait()) < 10
