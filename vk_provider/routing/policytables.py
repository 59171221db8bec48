"""The policy table of one pod as its instance is sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from cachetools import LRUCache

from vk_provider.agentclient.tables import TableText
from vk_provider.aiokit.followers import Followers
from vk_provider.netpolicy.nft import render_delta, render_pod, render_table
from vk_provider.netpolicy.table import Table, diff_tables
from vk_provider.routing.messages import encode_table
from vk_provider.wire.tables import TableMessage, TableName

REMEMBERED_ELEMENTS = 50_000
"""Of earlier tables of a pod, from which there are differences; pods with the same policies share them."""
REMEMBERED_TABLES = 64
INLINE_ELEMENTS = 500
"""Texts about more elements are made in a thread."""
_WHOLE_TEXTS, _DIFFERENCES = 8, 256


class PolicyTexts:
    """Texts, made once for all pods that have the same table."""

    def __init__(self) -> None:
        self._whole: LRUCache[str, str] = LRUCache(_WHOLE_TEXTS)
        self._differences: LRUCache[tuple[str, str], TableText] = LRUCache(_DIFFERENCES)

    async def whole(self, table: Table, addresses: Sequence[str]) -> TableText:
        """addresses: of the pod."""
        text = self._whole.get(table.revision)
        if text is None:
            text = self._whole[table.revision] = await _make(lambda: render_table(table), len(table.verdicts))
        return _encode("", table.revision, text + render_pod(addresses))

    async def difference(self, earlier: Table, newest: Table) -> TableText:
        key = earlier.revision, newest.revision
        found = self._differences.get(key)
        if found is None:
            size = len(newest.changed) if newest.base == earlier.revision else len(newest.verdicts)
            text = await _make(lambda: render_delta(diff_tables(earlier, newest)), size)
            found = self._differences[key] = _encode(*key, text)
        return found


async def _make(render: Callable[[], str], elements: int) -> str:
    """Tables are never changed, so a thread may read them."""
    return render() if elements <= INLINE_ELEMENTS else await asyncio.to_thread(render)


def _encode(base: str, revision: str, text: str) -> TableText:
    return encode_table(TableMessage(type="table", name="policy", base=base, revision=revision, text=text))


class PolicyTables:
    """agentclient.tables.TableSource of the instance of one pod.

    addresses: of the pod, as the cloud says: the whole text has them
    """

    __slots__ = ("_earlier", "_followers", "_newest", "_texts", "addresses")

    name: TableName = "policy"

    def __init__(self, texts: PolicyTexts, addresses: Sequence[str]) -> None:
        self._texts, self.addresses = texts, tuple(addresses)
        self._newest: Table | None = None
        self._earlier: list[Table] = []
        self._followers = Followers()

    @property
    def revision(self) -> str:
        return self._newest.revision if self._newest is not None else ""

    def follow(self, on_change: Callable[[], None]) -> Callable[[], None]:
        return self._followers.add(on_change)

    def publish(self, table: Table) -> None:
        """Make it the newest one."""
        before = self._newest
        if before is not None:
            if before.revision == table.revision:
                return
            self._earlier.append(before)
            while len(self._earlier) > REMEMBERED_TABLES or self._remembered() > REMEMBERED_ELEMENTS:
                del self._earlier[0]
        self._newest = table
        for _ in self._followers.tell():
            pass

    async def text_from(self, base: str, *, packed: bool = False) -> TableText | None:
        newest = self._newest
        if newest is None or base == newest.revision:
            return None
        earlier = next((table for table in reversed(self._earlier) if table.revision == base), None)
        if earlier is None:
            return await self._texts.whole(newest, self.addresses)
        return await self._texts.difference(earlier, newest)

    def _remembered(self) -> int:
        return sum(len(table.verdicts) for table in self._earlier)
