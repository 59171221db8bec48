"""10,000 Services on their way to 1,000 instances: compiled, encoded, sent, confirmed; then changes at 50 a second.

A process of its own with the provider's compiler and sessions and the simulated cloud's agents, which apply at once: so
what is measured is the provider's share. Without TLS, which costs some milliseconds for each whole table.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import uvloop

from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, quantile
from tests.bench.machine import PROJECT, resident_mb
from tests.bench.services import make_objects, make_slice_of
from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.agentclient.tables import TableFlow, TableText
from vk_provider.aiokit.permits import Permits
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.cloud.simulated.connector import SimulatedChannel
from vk_provider.jsontypes import Json
from vk_provider.kube.services import trim_service
from vk_provider.pods.tables import LARGE_TEXT_S, LARGE_TEXTS
from vk_provider.routing.compiler import TableCompiler
from vk_provider.routing.objects import trim_slice
from vk_provider.routing.tables import ServiceTables
from vk_provider.wire.session import UpMessage

SERVICES, AGENTS, FOLLOWING = 10_000, 1_000, 200
CHANGES, CHANGES_PER_S = 250, 50
TIME = "2026-01-01T00:00:00Z"


async def measure(cluster: BenchCluster) -> list[Figure]:
    """The cluster is not used: objects come from memory."""
    command = [sys.executable, "-m", "tests.bench.tables", str(SERVICES), str(AGENTS), str(FOLLOWING)]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return [Figure(**figure) for figure in json.loads(output)]


class Fleet:
    """Sessions of simulated agents that follow one table; a TableObserver of all of them."""

    def __init__(self, source: ServiceTables) -> None:
        self.source = source
        self.flows: list[TableFlow] = []
        self.sent_bytes = 0
        self.seconds: list[float] = []
        self._permits = Permits(LARGE_TEXTS, LARGE_TEXT_S)
        self._tasks: list[asyncio.Task[None]] = []

    def sent(self, text: TableText) -> None:
        self.sent_bytes += len(text.frame)

    def applied(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def failed(self, message: str) -> None:
        raise RuntimeError(message)

    async def connect(self, count: int) -> None:
        for number in range(count):
            instance = Instance(f"i-{number}", InstanceState.RUNNING, "t", "a", "", "", "192.0.2.1", "192.0.2.2", 0.0)
            channel = SimulatedChannel(SimulatedAgent(instance, TIME), lambda agent, item: agent.receive(item, TIME))
            session = AgentSession(channel)
            self._tasks.append(asyncio.create_task(session.run(self._receiver(session))))
            if number % 10 == 0:
                await asyncio.sleep(0)  # connections do not come in one turn of the event loop
        while len(self.flows) < count or any(flow.behind_s() for flow in self.flows):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)

    def _receiver(self, session: AgentSession) -> Callable[[UpMessage], None]:
        flow: list[TableFlow] = []

        def receive(message: UpMessage) -> None:
            if message["type"] == "hello":
                flow.append(TableFlow(self.source, self._offer(session), self, self._permits, ""))
                self.flows += flow
            elif message["type"] == "tables":
                flow[0].answer(message["tables"].get("services", ""), "", message.get("name"))

        return receive

    def _offer(self, session: AgentSession) -> Callable[[TableFlow], None]:
        return lambda flow: session.put(Slot.SERVICES_TABLE, flow)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for flow in self.flows:
            flow.close()


class Turns:
    """The longest turn of the event loop, in CPU time of its thread: other processes do not count."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest_s = max(self.longest_s, time.thread_time() - started)


async def _measure(services: int, agents: int, following: int) -> list[dict[str, object]]:
    turns = Turns()
    watching = asyncio.create_task(turns.watch())
    compiler = TableCompiler()
    compiler.add_node("n1", ("10.255.0.1",))
    source = compiler.source("n1", "a")
    base_mb, begun = resident_mb(os.getpid()), time.process_time()
    for start in range(0, services, 500):  # pages, as an informer reads them
        _add(compiler, start, min(start + 500, services))
        await compiler.compile()
    compiler.complete()
    await compiler.compile()
    compile_s, compile_turn_s = time.process_time() - begun, turns.longest_s
    gc.collect()
    held_mb, turns.longest_s = resident_mb(os.getpid()) - base_mb, 0.0
    first = await _connect(Fleet(source), agents, turns)
    turns.longest_s = 0.0
    followed = await _follow(Fleet(source), compiler, services, following, turns)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    shape = f"{services} Services x 2 endpoints"
    return [
        _figure("tables_compile", compile_s, "s", f"{shape}: objects to a table, CPU, once for a Node"),
        _figure("tables_compile_turn", compile_turn_s * 1000, "ms", "longest turn of the event loop meanwhile, CPU"),
        _figure("tables_memory", held_mb, "MB", f"{shape}: what the provider holds of them", goal=60.0),
        *first,
        *followed,
    ]


def _add(compiler: TableCompiler, first: int, last: int) -> None:
    listed, slices = make_objects(last, first + 1)
    for item in listed:
        compiler.on_service("ADDED", trim_service(_listed(item)))
    for item in slices:
        compiler.on_slice("ADDED", trim_slice(_listed(item)))


def _listed(item: Json) -> Json:
    return {**item, "metadata": {**item["metadata"], "uid": "u", "resourceVersion": "1"}}


async def _connect(fleet: Fleet, agents: int, turns: Turns) -> list[dict[str, object]]:
    begun, wall, before_mb = time.process_time(), time.perf_counter(), resident_mb(os.getpid())
    await fleet.connect(agents)
    seconds, took = time.perf_counter() - wall, time.process_time() - begun
    more_mb = resident_mb(os.getpid()) - before_mb
    await fleet.close()
    note = f"{agents} agents connect at once"
    return [
        _figure("tables_first", seconds, "s", f"{note}: until the last one has its table"),
        _figure("tables_first_cpu", took, "s", f"{note}: CPU, their own share included"),
        _figure("tables_first_bytes", fleet.sent_bytes / agents, "B", f"{note}: sent to each"),
        _figure("tables_first_turn", turns.longest_s * 1000, "ms", f"{note}: longest turn of the event loop, CPU"),
        _figure("tables_first_memory", more_mb, "MB", f"{note}: more memory for texts and sessions"),
    ]


async def _follow(
    fleet: Fleet, compiler: TableCompiler, services: int, following: int, turns: Turns
) -> list[dict[str, object]]:
    await fleet.connect(following)
    fleet.sent_bytes, fleet.seconds = 0, []
    running = asyncio.create_task(compiler.run())
    begun, wall = time.process_time(), time.perf_counter()
    for number in range(CHANGES):
        compiler.on_slice("MODIFIED", trim_slice(_listed(make_slice_of(number * 7 % services + 1, 2 + number % 7))))
        await asyncio.sleep(1 / CHANGES_PER_S)
    seconds, took = time.perf_counter() - wall, time.process_time() - begun
    while any(flow.behind_s() for flow in fleet.flows):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)
    running.cancel()
    await fleet.close()
    note = f"{following} agents, {CHANGES_PER_S} changes a second"
    p99 = quantile(fleet.seconds, 0.99)
    return [
        _figure("tables_following_cpu", took / seconds * 100, "%", f"{note}: of one CPU, the agents' share included"),
        _figure("tables_following_p99", p99 * 1000, "ms", f"{note}: from a new table to its agents' word"),
        _figure(
            "tables_following_bytes", fleet.sent_bytes / following / CHANGES, "B", f"{note}: to each, for a change"
        ),
    ]


def _figure(name: str, value: float, unit: str, note: str, goal: float | None = None) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "note": note, "goal": goal}


def main() -> None:
    services, agents, following = map(int, sys.argv[1:])
    gc.freeze()
    gc.set_threshold(5_000, 5, 2_000)  # as the provider does
    print(json.dumps(uvloop.run(_measure(services, agents, following))))


if __name__ == "__main__":
    main()
