"""A TableKeeper in the node's namespace of a bed, and a provider that compiles for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.integration.serviceproxy.bed import Bed
from tests.integration.serviceproxy.opened import Opened
from tests.service_objects import NODE, NODE4
from tests.wire_check import assert_fits
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_packed, render_table
from vk_provider.serviceproxy.table import Table, diff_tables
from vk_provider.wire.packed import encode_packed
from vk_provider.wire.tables import TableMessage, TablesMessage, UdpFrontendEntry

T = TypeVar("T")
POD = "10.1.64.1"
OWN = "10.255.9.9"
FACTS = InstanceFacts("i-1", OWN, POD, "t.small", "z1", "ip-10-255-9-9")


class Compiled:
    """What the provider has compiled, and the messages that it would send."""

    def __init__(self) -> None:
        self.index = ServiceIndex(NODE, (NODE4,))
        self.table: Table = self.index.table("z1")

    def whole(self, *objects: Json) -> TableMessage:
        """The whole table, after `objects` were taken over."""
        self._take(objects)
        self.table = self.index.table("z1")
        return {
            "type": "table",
            "name": "services",
            "base": "",
            "revision": self.table.revision,
            "text": render_table(self.table, Vantage(is_instance=True)),
            "nodeAddresses": [NODE4],
            "udp": _entries(self.table.udp_frontends()),
        }

    def packed(self, *objects: Json) -> TableMessage:
        """The same with packed elements."""
        message = self.whole(*objects)
        text, bodies = render_packed(self.table, Vantage(is_instance=True))
        return {**message, "text": text, "packed": encode_packed(bodies)}

    def change(self, *objects: Json) -> TableMessage:
        """The difference that `objects` make."""
        self._take(objects)
        before, self.table = self.table, self.index.table("z1")
        delta = diff_tables(before, self.table)
        return {
            "type": "table",
            "name": "services",
            "base": delta.base,
            "revision": delta.revision,
            "text": render_delta(delta),
            "udp": _entries(delta.udp),
        }

    def _take(self, objects: Sequence[Json]) -> None:
        for item in objects:
            (self.index.apply_service if item["kind"] == "Service" else self.index.apply_slice)(item)


def _entries(frontends: Iterable[UdpFrontend]) -> list[UdpFrontendEntry]:
    return [
        {
            "family": int(item.frontend.family),
            "address": item.frontend.address,
            "port": item.frontend.port,
            "serving": sorted(item.serving),
        }
        for item in frontends
    ]


class Kept(Opened):
    """Use as a context manager. `told` is what the keeper has reported; `restart` is a crash of the agent."""

    def __init__(self, bed: Bed, directory: Path) -> None:
        super().__init__()
        self.bed = bed
        self.told: list[TablesMessage] = []
        self._directory = directory
        self._loop = asyncio.new_event_loop()

    def _open(self) -> None:
        thread = threading.Thread(target=self._serve, name="agent")
        thread.start()

        def end() -> None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

        self._stack.callback(end)
        self._begin()
        self._stack.callback(lambda: self._run(self._stop()))

    def _serve(self) -> None:
        with open(f"/run/netns/{self.bed.node}") as handle:
            setns(handle.fileno(), CLONE_NEWNET)
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _begin(self) -> None:
        async def begin() -> None:
            self.keeper = TableKeeper(FACTS, self._directory, self._note)
            self._task = asyncio.create_task(self.keeper.run(), name="tables")

        self._run(begin())

    async def _stop(self) -> None:
        self._task.cancel()
        (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError), outcome

    def _note(self, message: TablesMessage) -> None:
        assert_fits(message)
        self.told.append(message)

    def use_host_network(self) -> dict[str, str]:
        """The pod is in the instance's network namespace. What its containers wait for at first."""

        async def use() -> dict[str, str]:
            self.keeper.set_host_network(True)
            return self.keeper.missing(["services"])

        missing = self._run(use())
        self.wait(lambda: not self.keeper.missing(["services"]))
        return missing

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """On the agent's event loop, in the instance's network namespace."""
        return self._run(work)

    def restart(self, *, lose_copies: bool = False) -> None:
        self._run(self._stop())
        if lose_copies:
            for path in self._directory.iterdir():
                path.unlink()
        self._begin()

    def send(self, *messages: TableMessage) -> None:
        """The texts arrive together."""

        async def receive() -> None:
            for message in messages:
                self.keeper.receive(message)

        self._run(receive())

    def apply(self, *messages: TableMessage) -> TablesMessage:
        """Send, and wait for the word about the last; AssertionError when one was not applied."""
        before = len(self.told)
        self.send(*messages)
        self.wait(lambda: len(self.told) >= before + len(messages))
        for told in self.told[before:]:
            assert "error" not in told, told
        return self.told[-1]

    def refuse(self, message: TableMessage) -> TablesMessage:
        """Send a text that is not applied; the word about it."""
        before = len(self.told)
        self.send(message)
        self.wait(lambda: len(self.told) > before)
        assert "error" in self.told[before], self.told[before]
        return self.told[before]

    def wait(self, condition: Callable[[], object], limit_s: float = 10.0) -> float:
        """Wait for something that another process or thread does; returns how long it took, in seconds."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() < begun + limit_s, "it does not happen"
            time.sleep(0.005)
        return time.monotonic() - begun

    def count(self, what: str, table: str = "services") -> int:
        return int(self.keeper.counts().get((table, what), 0))

    def listed(self, table: str = "vk-services") -> str:
        """The table without what packets write; "" when it is not there."""
        return self.bed.run_node("nft", "-s", "list", "table", "inet", table, check=False)
