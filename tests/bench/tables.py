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
from dataclasses import dataclass

import uvloop

from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, quantile
from tests.bench.machine import PROJECT, peak_mb, reset_peak, resident_mb
from tests.bench.services import make_objects, make_slice_of
from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.agentclient.tables import TableFlow, TableText
from vk_provider.aiokit.permits import Permits
from vk_provider.app import settle_heap
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.cloud.simulated.connector import SimulatedChannel
from vk_provider.jsontypes import Json
from vk_provider.kube.services import trim_service
from vk_provider.pods.tables import LARGE_TEXT_S, LARGE_TEXTS
from vk_provider.routing.compiler import TableCompiler
from vk_provider.routing.objects import trim_slice
from vk_provider.routing.tables import ServiceTables
from vk_provider.wire.packed import PACKED_FEATURE
from vk_provider.wire.session import UpMessage

SERVICES, AGENTS, FOLLOWING = 10_000, 1_000, 200
CHANGES, CHANGES_PER_S = 250, 50
SETTLE_S = 1.0
"""The last change is compiled, too."""
PAGE = 500
TIME = "2026-01-01T00:00:00Z"


async def measure(cluster: BenchCluster) -> list[Figure]:
    """The cluster is not used: objects come from memory."""
    command = [sys.executable, "-m", "tests.bench.tables", str(SERVICES), str(AGENTS), str(FOLLOWING)]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return [Figure(**figure) for figure in json.loads(output)]


class Staleness:
    """From a change of a slice to each agent's word that a table with it is in force."""

    def __init__(self, source: ServiceTables) -> None:
        self.seconds: list[float] = []
        self._source = source
        self._waiting: dict[str, list[float]] = {}
        self._published: list[tuple[str, list[float]]] = []
        self._reached: dict[TableFlow, int] = {}
        self._stop = source.follow(self._on_table)

    def changed(self, service: str) -> None:
        self._waiting.setdefault(service, []).append(time.perf_counter())

    def _on_table(self) -> None:
        table = self._source.newest
        assert table is not None
        times = [since for key in table.changed for since in self._waiting.pop(key, ())]
        self._published.append((table.revision, times))

    def confirmed(self, flow: TableFlow) -> None:
        """Its agent has said that flow.in_force is in force: with it all changes before."""
        first = self._reached.get(flow, 0)
        for number in range(first, len(self._published)):
            if self._published[number][0] == flow.in_force:
                break
        else:
            return
        now = time.perf_counter()
        self.seconds += [now - since for _, times in self._published[first : number + 1] for since in times]
        self._reached[flow] = number + 1

    def close(self) -> None:
        self._stop()


class Fleet:
    """Sessions of simulated agents that follow one table; a TableObserver of all of them."""

    def __init__(self, source: ServiceTables) -> None:
        self.source = source
        self.flows: list[TableFlow] = []
        self.sent_bytes = 0
        self.staleness: Staleness | None = None
        self._permits = Permits(LARGE_TEXTS, LARGE_TEXT_S)
        self._tasks: list[asyncio.Task[None]] = []

    def sent(self, text: TableText) -> None:
        self.sent_bytes += len(text.frame)

    def applied(self, seconds: float) -> None:
        """From the table's publication; `staleness` counts from the change."""

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
                packed = session.has(PACKED_FEATURE)
                flow.append(TableFlow(self.source, self._offer(session), self, self._permits, "", packed=packed))
                self.flows += flow
            elif message["type"] == "tables":
                flow[0].answer(message["tables"].get("services", ""), "", message.get("name"))
                if self.staleness is not None:
                    self.staleness.confirmed(flow[0])

        return receive

    def _offer(self, session: AgentSession) -> Callable[[TableFlow], None]:
        return lambda flow: session.put(Slot.SERVICES_TABLE, flow)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for flow in self.flows:
            flow.close()
        if self.staleness is not None:
            self.staleness.close()


class Turns:
    """The longest turn of the event loop, in CPU time of its thread: other processes do not count."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._counts = True

    def skip(self) -> None:
        """The present turn is the benchmark's own."""
        self._counts = False

    async def watch(self) -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            if self._counts:
                self.longest_s = max(self.longest_s, time.thread_time() - started)
            self._counts = True


async def _measure(services: int, agents: int, following: int) -> list[dict[str, object]]:
    turns = Turns()
    watching = asyncio.create_task(turns.watch())
    compiler = TableCompiler()
    compiler.add_node("n1", ("10.255.0.1",))
    source = compiler.source("n1", "a")
    base_mb, begun, made_s = resident_mb(os.getpid()), time.process_time(), 0.0
    for start in range(0, services, PAGE):
        making = time.process_time()
        page = _page(start, min(start + PAGE, services))
        turns.skip()
        await asyncio.sleep(0.003)
        made_s += time.process_time() - making
        _add(compiler, *page)  # as an informer hands it over
        del page
        await compiler.compile()
    compiler.complete()
    await compiler.compile()
    compile_s, compile_turn_s = time.process_time() - begun - made_s, turns.longest_s
    gc.collect()
    turns.skip()
    await asyncio.sleep(0.003)
    held_mb, turns.longest_s = resident_mb(os.getpid()) - base_mb, 0.0
    first = await _connect(Fleet(source), agents, turns)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching  # a thousand looks a second would count as the provider's CPU
    alone = await _follow(Fleet(source), compiler, services, 0)
    followed = await _follow(Fleet(source), compiler, services, following)
    shape = f"{services} Services x 2 endpoints"
    return [
        _figure("tables_compile", compile_s, "s", f"{shape}: objects to a table, CPU, once for a Node"),
        _figure("tables_compile_turn", compile_turn_s * 1000, "ms", "longest turn of the event loop meanwhile, CPU"),
        _figure("tables_memory", held_mb, "MB", f"{shape}: what the provider holds of them", goal=60.0),
        *first,
        *_follow_figures(followed, alone, following),
    ]


def _page(first: int, last: int) -> tuple[list[Json], list[Json]]:
    listed, slices = make_objects(last, first + 1)
    return [trim_service(_listed(item)) for item in listed], [trim_slice(_listed(item)) for item in slices]


def _add(compiler: TableCompiler, listed: list[Json], slices: list[Json]) -> None:
    for item in listed:
        compiler.on_service("ADDED", item)
    for item in slices:
        compiler.on_slice("ADDED", item)


def _listed(item: Json) -> Json:
    return {**item, "metadata": {**item["metadata"], "uid": "u", "resourceVersion": "1"}}


async def _connect(fleet: Fleet, agents: int, turns: Turns) -> list[dict[str, object]]:
    begun, wall, before_mb = time.process_time(), time.perf_counter(), resident_mb(os.getpid())
    reset_peak()
    await fleet.connect(agents)
    seconds, took = time.perf_counter() - wall, time.process_time() - begun
    more_mb = peak_mb(os.getpid()) - before_mb
    await fleet.close()
    note = f"{agents} agents connect at once"
    return [
        _figure("tables_first", seconds, "s", f"{note}: until the last one has its table"),
        _figure("tables_first_cpu", took, "s", f"{note}: CPU, their own share included"),
        _figure("tables_first_bytes", fleet.sent_bytes / agents, "B", f"{note}: sent to each"),
        _figure(
            "tables_first_turn", turns.longest_s * 1000, "ms", f"{note}: longest turn of the event loop, CPU", 100.0
        ),
        _figure("tables_first_memory", more_mb, "MB", f"{note}: peak above what it was before"),
    ]


@dataclass(frozen=True, slots=True)
class Followed:
    """cpu: share of one CPU (0-1); seconds: staleness, one for each change and agent; bytes_each: for a change"""

    cpu: float
    seconds: list[float]
    bytes_each: float


async def _follow(fleet: Fleet, compiler: TableCompiler, services: int, following: int) -> Followed:
    fleet.staleness = Staleness(fleet.source)  # it is told of each table before the sessions are
    await fleet.connect(following)
    fleet.sent_bytes = 0
    running = asyncio.create_task(compiler.run())
    begun, wall = time.process_time(), time.perf_counter()
    for number in range(CHANGES):
        moved = number * 7 % services + 1
        # each run through the Services gives them other addresses than the one before
        changed = trim_slice(_listed(make_slice_of(moved, 2 + (number + following) % 7)))
        fleet.staleness.changed(f"default/s{moved}")
        compiler.on_slice("MODIFIED", changed)
        await asyncio.sleep(1 / CHANGES_PER_S)
    seconds, took = time.perf_counter() - wall, time.process_time() - begun
    await asyncio.sleep(SETTLE_S)
    while any(flow.behind_s() for flow in fleet.flows):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)
    running.cancel()
    await fleet.close()
    return Followed(took / seconds, fleet.staleness.seconds, fleet.sent_bytes / max(1, following) / CHANGES)


def _follow_figures(followed: Followed, alone: Followed, following: int) -> list[dict[str, object]]:
    if len(followed.seconds) != following * CHANGES:
        raise RuntimeError(f"{len(followed.seconds)} confirmations of {CHANGES} changes by {following} agents")
    note = f"{following} agents, {CHANGES_PER_S} changes a second"
    p50, p99 = (quantile(followed.seconds, share) * 1000 for share in (0.5, 0.99))
    return [
        _figure(
            "tables_following_cpu",
            followed.cpu * 100,
            "%",
            f"{note}: of one CPU, the agents' share included; {alone.cpu * 100:.1f} without agents",
        ),
        _figure(
            "tables_following_p99",
            p99,
            "ms",
            f"{note}: staleness, from the change to an agent's word; half are below {p50:.0f}",
        ),
        _figure("tables_following_bytes", followed.bytes_each, "B", f"{note}: to each, for a change"),
    ]


def _figure(name: str, value: float, unit: str, note: str, goal: float | None = None) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "note": note, "goal": goal}


def main() -> None:
    services, agents, following = map(int, sys.argv[1:])
    settle_heap()  # as the provider does
    print(json.dumps(uvloop.run(_measure(services, agents, following))))


if __name__ == "__main__":
    main()
