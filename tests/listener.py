"""Runs an AgentSession in a test, and channels that agents of a test speak through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import orjson

from vk_provider.agentclient.session import AgentSession
from vk_provider.errors import AgentUnreachableError
from vk_provider.jsontypes import Json

STARTED_AT = "2026-01-01T00:00:00Z"


def hello(instance_id: str = "i-1", pod_uid: str = "", features: Sequence[str] = ()) -> Json:
    """The greeting of an agent."""
    return {
        "type": "hello",
        "version": 1,
        "features": list(features),
        "instanceID": instance_id,
        "podUID": pod_uid,
        "agentStartedAt": STARTED_AT,
    }


class ScriptedChannel:
    """session.Channel of an agent that says `messages` and closes, or stays silent when `stays`."""

    def __init__(self, messages: Iterable[Json | bytes], *, stays: bool = False) -> None:
        self._messages = list(messages)
        self._stays = stays
        self._open = asyncio.Event()
        self.sent: list[Json] = []
        self.closed = False

    async def send(self, frame: bytes) -> None:
        if self.closed:
            raise AgentUnreachableError("closed")
        self.sent.append(orjson.loads(frame))

    async def frames(self) -> AsyncIterator[bytes | str]:
        for message in self._messages:
            yield message if isinstance(message, bytes) else orjson.dumps(message)
        if self._stays:
            await self._open.wait()

    async def close(self) -> None:
        self.closed = True
        self._open.set()


class Listener:
    """Holds a session and what came up it. `error`: what ended it, None when the agent closed it;
    `hear` is called with each message."""

    def __init__(self, session: AgentSession) -> None:
        self.session = session
        self.seen: list[Any] = []
        self.hear: Callable[[Any], None] = lambda _: None
        self.error: BaseException | None = None
        self._read = 0
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="listener")

    async def _run(self) -> None:
        try:
            await self.session.run(self._take)
        except Exception as error:
            self.error = error
        finally:
            self._more.set()

    def _take(self, message: Any) -> None:
        self.seen.append(message)
        self.hear(message)
        self._more.set()

    async def read(self, count: int, limit_s: float = 5.0) -> list[Any]:
        """The next `count` messages, fewer when the session ends before."""
        return await self._until(lambda found: len(found) == count, limit_s)

    async def wait_for(self, wanted: Callable[[Any], bool], limit_s: float = 30.0) -> list[Any]:
        """The next messages up to and with the first that is wanted."""
        found = await self._until(lambda found: wanted(found[-1]), limit_s)
        assert found and wanted(found[-1]), f"not seen before the session ended: {found}"
        return found

    async def _until(self, is_enough: Callable[[list[Any]], bool], limit_s: float) -> list[Any]:
        found: list[Any] = []
        async with asyncio.timeout(limit_s):
            while True:
                while self._read < len(self.seen):
                    found.append(self.seen[self._read])
                    self._read += 1
                    if is_enough(found):
                        return found
                if self._task.done():
                    return found
                self._more.clear()
                await self._more.wait()

    async def ended(self, limit_s: float = 5.0) -> BaseException | None:
        """Wait for the end of the session; returns its error."""
        await asyncio.wait_for(asyncio.shield(self._task), limit_s)
        return self.error

    async def close(self) -> None:
        await self.session.close()
        await asyncio.wait({self._task}, timeout=5.0)
        self._task.cancel()
