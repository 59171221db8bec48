"""A KubeClient over collections in memory: lists what is there, and tells open watches of each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from vk_provider.jsontypes import Json


class FakeCluster:
    """lists: paths in the order of their lists; watching: open watches by path; hold: lists of these paths wait."""

    def __init__(self) -> None:
        self.lists: list[str] = []
        self.watching: dict[str, list[asyncio.Queue[Json]]] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._items: dict[str, dict[str, Json]] = {}
        self._version = 1

    def hold(self, path: str) -> asyncio.Event:
        """Lists of `path` wait until the event is set."""
        return self._held.setdefault(path, asyncio.Event())

    def set(self, path: str, item: Json) -> None:
        self._change(path, item, "MODIFIED" if self._key(item) in self._items.get(path, {}) else "ADDED")

    def remove(self, path: str, item: Json) -> None:
        self._change(path, item, "DELETED")

    def _change(self, path: str, item: Json, kind: str) -> None:
        self._version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self._version)}}
        if kind == "DELETED":
            del self._items[path][self._key(item)]
        else:
            self._items.setdefault(path, {})[self._key(item)] = item
        for watch in self.watching.get(path, []):
            watch.put_nowait({"type": kind, "object": item})

    @staticmethod
    def _key(item: Json) -> str:
        return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"

    async def list_pages(
        self, path: str, query: Json | None = None, *, read: Any = None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        self.lists.append(path)
        if path in self._held:
            await self._held[path].wait()
        yield list(self._items.get(path, {}).values()), str(self._version)

    async def watch(
        self, path: str, query: Json | None, resource_version: str, on_open: Callable[[], None]
    ) -> AsyncIterator[Json]:
        events: asyncio.Queue[Json] = asyncio.Queue()
        self.watching.setdefault(path, []).append(events)
        try:
            on_open()
            while True:
                yield await events.get()
        finally:
            self.watching[path].remove(events)
