"""Turns changes of Services and EndpointSlices into tables: soon, together, and in short turns of the event loop.

The first change after a while is compiled at once; those that follow wait for an interval that grows with the number of
instances that are told, so that a cluster in which everything changes takes a bounded share of the provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kube.informer import DELETED, MODIFIED
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.index import ServiceIndex, key_of, read_service, read_slice

SETTLE_S = 0.002
"""Objects that come together, such as a Service and its slice, make one table. A slice that only changes waits for
nothing: a connection may already be on its way to an endpoint that has gone."""
MIN_INTERVAL_S = 0.1
INTERVAL_PER_FOLLOWER_S = 0.001
"""To tell an instance costs about a tenth of that."""
TURN_S = 0.004
"""Longest turn of the event loop."""
_COMPILED_AT_ONCE = 16


class NodeTables:
    """The tables of one Node, by zone of the instances."""

    def __init__(self, node: str, addresses: Iterable[str]) -> None:
        self.addresses = tuple(addresses)
        self.index = ServiceIndex(node, self.addresses)
        self.zones: dict[str, ServiceTables] = {}


class TableCompiler:
    """Root task `run`. `source` gives the tables of a Node for instances in one zone; they have no revision before
    `complete` was called: every table before that would refuse what the cluster has.

    on_table: called for each table that is made
    """

    def __init__(self, on_table: Callable[[], None] = lambda: None) -> None:
        self._on_table = on_table
        self._nodes: dict[str, NodeTables] = {}
        self._addresses: list[str] = []
        self._kubelets: list[tuple[tuple[str, ...], int]] = []
        self._host_ports: dict[str, tuple[str, tuple[HostPort, ...]]] = {}
        self._services: dict[str, bytes | None] = {}
        self._slices: dict[str, bytes | None] = {}
        self._cidrs: list[str] | None = None
        self._complete = False
        self._changed = asyncio.Event()
        self._may_be_part = False

    def add_node(self, node: str, addresses: Iterable[str], kubelet_port: int = 0) -> None:
        """All Nodes in one turn of the event loop: what has come before is kept for them. kubelet_port: on which the
        provider answers for the Node at its addresses, 0 for nowhere: it stays its own in the tables of all Nodes."""
        tables = self._nodes[node] = NodeTables(node, addresses)
        if kubelet_port:
            self._kubelets.append((tables.addresses, kubelet_port))
        for each in self._nodes.values():
            for reserved in self._kubelets:
                each.index.reserve(*reserved)
        self._addresses += [address for address in tables.addresses if address not in self._addresses]
        self._changed.set()

    @property
    def node_addresses(self) -> tuple[str, ...]:
        """Of all Nodes: where each instance answers node ports."""
        return tuple(self._addresses)

    def source(self, node: str, zone: str) -> ServiceTables:
        tables = self._nodes[node]
        found = tables.zones.get(zone)
        if found is None:
            found = tables.zones[zone] = ServiceTables(self._addresses)  # of all Nodes: every instance answers for them
            self._changed.set()
        return found

    @property
    def sources(self) -> list[ServiceTables]:
        return [source for tables in self._nodes.values() for source in tables.zones.values()]

    def on_service(self, kind: str, item: Json) -> None:
        self._may_be_part = True
        self._note(self._services, kind, item, read_service)

    def on_slice(self, kind: str, item: Json) -> None:
        self._may_be_part |= kind != MODIFIED
        self._note(self._slices, kind, item, read_slice)

    def _note(
        self, waiting: dict[str, bytes | None], kind: str, item: Json, read: Callable[[Json], bytes | None]
    ) -> None:
        """Read here, once for all Nodes: objects that wait take twenty times as much memory, and after the list of a
        cluster much of that would stay with the process."""
        key = key_of(item)
        with contained(key):
            waiting[key] = read(item) if kind != DELETED else None
            self._changed.set()

    def set_host_ports(self, node: str, pod: str, ports: tuple[HostPort, ...]) -> None:
        """The host ports of a pod of the Node, by UID: at its Node's addresses, for the instances of every Node."""
        self._host_ports[pod] = (node, ports)
        self._changed.set()

    def set_cidrs(self, networks: list[str]) -> None:
        self._cidrs = networks
        self._changed.set()

    def complete(self) -> None:
        """Everything was listed once."""
        self._complete = True
        self._changed.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._changed.wait()
            if self._may_be_part and self._complete:
                await asyncio.sleep(SETTLE_S)
            self._may_be_part = False
            self._changed.clear()
            if await self.compile():
                followers = sum(source.followers for source in self.sources)
                await asyncio.sleep(max(MIN_INTERVAL_S, followers * INTERVAL_PER_FOLLOWER_S) - SETTLE_S)

    async def compile(self) -> bool:
        """Take over what has changed so far and, once complete, publish the tables. False: it was not complete."""
        if not self._nodes:
            return False
        turn, complete = _Turn(), self._complete
        await self._take_over(turn)
        if not complete:  # meanwhile it may be, but then something may have come that was not taken over
            return False
        for tables in self._nodes.values():
            for zone, source in list(tables.zones.items()):
                await self._compile_zone(tables.index, zone, turn)
                table = tables.index.table(zone)
                if table.revision != source.revision:
                    self._on_table()
                    await source.publish(table)
                await turn.breathe()
        return True

    async def _compile_zone(self, index: ServiceIndex, zone: str, turn: _Turn) -> None:
        done = False
        while not done:
            with contained("a Service of the table"):  # each is taken up once
                done = index.compile_some(zone, _COMPILED_AT_ONCE)
            await turn.breathe()

    async def _take_over(self, turn: _Turn) -> None:
        host_ports, self._host_ports = self._host_ports, {}
        services, self._services = self._services, {}
        slices, self._slices = self._slices, {}
        cidrs, self._cidrs = self._cidrs, None
        for tables in self._nodes.values():
            index = tables.index
            for pod, (node, ports) in host_ports.items():
                index.set_host_ports(pod, ports, self._nodes[node].addresses, node=node)
            if cidrs is not None:
                index.set_service_cidrs(cidrs)
            for take, items in ((index.set_service, services), (index.set_slice, slices)):
                for key, packed in items.items():
                    with contained(key):
                        take(key, packed)
                    await turn.breathe()


class _Turn:
    """Gives way to other tasks after TURN_S."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        if time.perf_counter() - self._since >= TURN_S:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
