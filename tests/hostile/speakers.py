"""Hostile pods that say what they are handed, each message on a real session, however many sessions that takes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence

from tests.hostile.agents import HostileAgent, Script, Session
from tests.hostile.templates import fill
from tests.hostile.world import World
from vk_provider.wire.inbound import WireError, decode_up

PINGS_A_SESSION = 15
"""The provider reads 20 pings at once, then 2 a second."""
LIMIT_S = 90.0


class Speaker:
    """One hostile pod at a time; when it has ended, another one goes on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._name = ""
        self._waiting: list[bytes] = []
        self._filled = asyncio.Event()
        self._done = asyncio.Event()
        self._greeting: bytes | None = None
        self.said: Counter[str] = Counter()
        """By the kind of a valid message; "refused" for the others."""

    async def say(self, messages: Sequence[bytes]) -> None:
        """Returns when the provider has read them all, or has closed the session over the last."""
        self._done.clear()
        self._waiting += messages
        self._filled.set()
        deadline = time.monotonic() + LIMIT_S
        while not self._done.is_set():
            assert time.monotonic() < deadline, f"{len(self._waiting)} messages are not read"
            if self._name not in self._world.agents:
                await self._replace()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), 0.3)

    async def _replace(self) -> None:
        if self._name:
            await self._world.namespace.delete_pod(self._name)
        self._greeting = None
        self._name = await self._world.create_hostile(Script(self._talk, greeting=self._greet))
        await self._world.wait_agent(self._name, given=False)

    def _greet(self, agent: HostileAgent) -> object:
        """A greeting that was generated, where one is due; else the honest one."""
        greeting, self._greeting = self._greeting, None
        return greeting if greeting is not None else Script().greeting(agent)

    async def _talk(self, agent: HostileAgent, session: Session) -> None:
        while not session.closed.is_set():
            if not self._waiting:
                await self._wait(session)
                continue
            data = fill(self._waiting.pop(0), agent.uid, self._world.honest.uid, self._world.honest.address)
            kind = _kind_of(data)
            self.said[kind] += 1
            if kind == "hello":
                self._greeting = data
                self._finish()
                return  # it is what the next session begins with
            await session.say(data)
            last = not self._waiting
            if (kind in _ENDING or last) and not await session.is_read():
                self._finish()
                return
            if last:
                self._finish()
            if session.pings >= PINGS_A_SESSION:
                return

    async def _wait(self, session: Session) -> None:
        self._filled.clear()
        tasks = {asyncio.create_task(event.wait()) for event in (self._filled, session.closed)}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def _finish(self) -> None:
        if not self._waiting:
            self._done.set()


def _kind_of(data: bytes) -> str:
    try:
        return decode_up(data)["type"]
    except WireError:
        return "refused"


_ENDING = {"refused", "stats", "identity", "images", "blobs", "notice"}
"""What ends a session, or may although it is valid: a sample beyond the capacity, a feature that was not named, the end
of the instance."""


async def say_all(speakers: Sequence[Speaker], messages: Sequence[bytes]) -> None:
    """Deal the messages out and wait until they are read."""
    shares = [messages[number :: len(speakers)] for number in range(len(speakers))]
    await asyncio.gather(*(speaker.say(share) for speaker, share in zip(speakers, shares, strict=True) if share))
