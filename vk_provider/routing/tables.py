"""The table of one Node and zone as its instances are sent it: each text is made once and shared by all sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from vk_provider.agentclient.tables import TableText
from vk_provider.aiokit.followers import Followers
from vk_provider.routing.history import TableHistory
from vk_provider.routing.messages import PACKED_SERVICES, encode_difference, encode_whole
from vk_provider.serviceproxy.table import Table
from vk_provider.wire.tables import TableName

INLINE_SERVICES = 64
"""Texts about more Services are made in a thread."""
WHOLE_SHARE = 4
"""A whole table is sent on until more than the fourth part of its Services has changed; a difference follows it."""
FOLLOWERS_AT_ONCE = 32
"""Each that is told of a new table starts to write: others get their turn between them."""


class ServiceTables:
    """agentclient.tables.TableSource of all instances of one Node in one zone.

    node_addresses: of all Nodes, where node ports are answered; read when a text is made
    """

    name: TableName = "services"

    def __init__(self, node_addresses: Sequence[str]) -> None:
        self._node_addresses = node_addresses
        self._history = TableHistory()
        self._followers = Followers()
        self._whole = _Whole()
        self._packed = _Whole()
        self._turnstile = asyncio.Lock()
        self._differences: dict[str, asyncio.Future[TableText]] = {}

    @property
    def revision(self) -> str:
        newest = self._history.newest
        return newest.revision if newest is not None else ""

    @property
    def newest(self) -> Table | None:
        return self._history.newest

    @property
    def followers(self) -> int:
        return len(self._followers)

    def follow(self, on_change: Callable[[], None]) -> Callable[[], None]:
        return self._followers.add(on_change)

    async def publish(self, table: Table) -> None:
        """Make it the newest one. Returns when all followers were told."""
        if table.revision == self.revision:
            return
        self._history.add(table)
        self._differences.clear()
        for count, _ in enumerate(self._followers.tell(), 1):
            if count % FOLLOWERS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def text_from(self, base: str, *, packed: bool = False) -> TableText | None:
        newest = self._history.newest
        if newest is None or base == newest.revision:
            return None
        changes = self._history.count_changes(base)
        if changes is None or changes > max(INLINE_SERVICES, len(newest.fragments)):
            return await self._whole_text(newest, packed and len(newest.fragments) >= PACKED_SERVICES)
        return await self._difference(base, newest, changes)

    async def _whole_text(self, newest: Table, packed: bool) -> TableText:
        whole = self._packed if packed else self._whole
        behind, services = self._history.count_changes(whole.revision), len(newest.fragments)
        if _is_useless(whole.text) or behind is None or behind > services // WHOLE_SHARE:
            whole.revision = newest.revision
            whole.text = _make(lambda: encode_whole(newest, self._node_addresses, packed=packed), services)
        assert whole.text is not None
        return await self._wait(whole.text)

    async def _difference(self, base: str, newest: Table, changes: int) -> TableText:
        found = self._differences.get(base)
        if found is None or _is_useless(found):
            pair = self._history.since(base)
            assert pair is not None
            found = self._differences[base] = _make(lambda: encode_difference(*pair), changes)
        return await self._wait(found)

    async def _wait(self, text: asyncio.Future[TableText]) -> TableText:
        """After a start all sessions wait for one text: they go on one after another, each in a turn of the event loop
        of its own."""
        if text.done():
            return text.result()
        async with self._turnstile:
            return await asyncio.shield(text)


class _Whole:
    """A whole table, in one of its forms, and its revision."""

    def __init__(self) -> None:
        self.text: asyncio.Future[TableText] | None = None
        self.revision = ""


def _is_useless(made: asyncio.Future[TableText] | None) -> bool:
    return made is None or (made.done() and (made.cancelled() or made.exception() is not None))


def _make(encode: Callable[[], TableText], services: int) -> asyncio.Future[TableText]:
    """The text: at once, or soon from a thread; tables are never changed, so a thread may read them."""
    loop = asyncio.get_running_loop()
    if services > INLINE_SERVICES:
        return loop.run_in_executor(None, encode)
    made: asyncio.Future[TableText] = loop.create_future()
    made.set_result(encode())
    return made
