"""A KubeClient that lists and watches what a test says, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json


def build_item(name: str, version: int = 1, uid: str = "", **rest: Any) -> Json:
    metadata = {"name": name, "namespace": "ns", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, **rest}


class FakeClient:
    """`items` is the collection; `ends` says how the next watches end (None: by the server), then they stay open;
    `list_error` is raised by lists while it is set."""

    def __init__(self) -> None:
        self.items: list[Json] = []
        self.version = 10
        self.lists = 0
        self.watches: list[str] = []
        self.ends: list[KubeApiError | None] = []
        self.list_error: KubeApiError | None = None

    async def list_pages(
        self, path: str, query: Json | None = None, *, read: Any = None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        self.lists += 1
        await asyncio.sleep(0)
        if self.list_error is not None:
            raise self.list_error
        selector = (query or {}).get("fieldSelector", "")
        name = selector.removeprefix("metadata.name=")
        yield [item for item in self.items if not name or item["metadata"]["name"] == name], str(self.version)

    async def watch(
        self, path: str, query: Json | None, resource_version: str, on_open: Callable[[], None]
    ) -> AsyncIterator[Json]:
        self.watches.append(resource_version)
        await asyncio.sleep(0)
        if not self.ends:
            on_open()
            await asyncio.Event().wait()
        error = self.ends.pop(0)
        if error is not None:
            raise error
        on_open()
        events: list[Json] = []
        for event in events:
            yield event


async def settle(turns: int = 50) -> None:
    """Let everything run that can."""
    for _ in range(turns):
        await asyncio.sleep(0)
