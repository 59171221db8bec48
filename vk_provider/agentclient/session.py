"""The session to one agent: only one reader and one writer use its channel.

Messages down wait in an outbox of slots: each holds the newest message of its kind, so that a slow agent costs one
message of each kind and callers never block. Frames up are rate limited, decoded and validated (`wire.inbound`) before
they are used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from enum import IntEnum
from typing import Protocol

import orjson

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.errors import AgentProtocolError, AgentUnreachableError
from vk_provider.jsontypes import Json
from vk_provider.wire.inbound import WireError, decode_up
from vk_provider.wire.session import HelloMessage, UpMessage
from vk_provider.wire.version import SUPPORTED_VERSIONS

HELLO_LIMIT_S = 10.0
"""Timeout of the agent's greeting."""
MESSAGE_RATE, MESSAGE_BURST = 50.0, 1_000.0
"""Messages per second that are read from one agent. A session begins with up to 500 unacknowledged events."""
BYTE_RATE, BYTE_BURST = float(1 << 20), float(8 << 20)


class Channel(Protocol):
    """The frames of one connection to an agent."""

    async def send(self, frame: bytes) -> None:
        """Returns when the frame is written. Raises AgentUnreachableError when the connection is closed."""

    def frames(self) -> AsyncIterator[bytes | str]:
        """Ends when the agent or the network closes the connection. Raises AgentProtocolError for a frame that is too
        long."""

    async def close(self) -> None: ...


class LazyMessage(Protocol):
    """A message that is made when it can be sent, from what is the newest then."""

    async def make(self) -> bytes | None:
        """The encoded message; None when there is nothing to send any more."""

    def written(self) -> None:
        """What `make` has returned was sent, or could not be."""


Message = Json | bytes | LazyMessage


class Slot(IntEnum):
    """Kinds of messages down, in the order in which they are sent."""

    POD = 0
    REFERENCES = 1
    SERVICES = 2
    STOP = 3
    ACK = 4
    SERVICES_TABLE = 5
    POLICY_TABLE = 6
    SOURCES = 7
    CREDENTIALS = 8


class Allowance:
    """Messages and bytes that are read from one agent, over all of its sessions: who closes one begins the next with
    what it has left."""

    __slots__ = ("_messages", "_volume")

    def __init__(self, now: float) -> None:
        self._messages = TokenBucket(MESSAGE_RATE, MESSAGE_BURST, now)
        self._volume = TokenBucket(BYTE_RATE, BYTE_BURST, now)

    def take(self, now: float, size: int) -> float:
        """One message of `size` bytes; returns how many seconds to wait before it is used."""
        return max(self._messages.take(now), self._volume.take(now, size))

    def full_in_s(self, now: float) -> float:
        """Seconds until nothing that was read counts any more."""
        return max(self._messages.full_in_s(now), self._volume.full_in_s(now))


class Outbox:
    """Messages to be sent: the newest of each slot."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Slot, Message] = {}

    def put(self, slot: Slot, message: Message) -> None:
        """Replace the waiting message of the slot. A pod message contains references and Services: waiting ones are
        dropped."""
        if slot is Slot.POD:
            self._waiting.pop(Slot.REFERENCES, None)
            self._waiting.pop(Slot.SERVICES, None)
        self._waiting[slot] = message

    def take(self) -> Message | None:
        """Remove the next message; None when none is waiting."""
        return self._waiting.pop(min(self._waiting)) if self._waiting else None


class AgentSession:
    """One open session; see wire.session for the messages.

    hello: the agent's greeting with wire version and features; None before it

    There are as many sessions as pods: the writer's task exists only while there is something to send.
    """

    __slots__ = ("_channel", "_clock", "_closed", "_failure", "_outbox", "_running", "_writer", "hello")

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._outbox = Outbox()
        self._closed = self._running = False
        self._writer: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.hello: HelloMessage | None = None

    def has(self, feature: str) -> bool:
        """Whether the agent has greeted with this feature."""
        return self.hello is not None and feature in self.hello.get("features", ())

    def put(self, slot: Slot, message: Message) -> None:
        """Send a message, replacing a waiting one of the same slot. Bytes are an encoded message that many sessions
        share. Never blocks; ignored once the session is closed."""
        if not self._closed:
            self._outbox.put(slot, message)
            self._start_writer()

    def _start_writer(self) -> None:
        if self._running and self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="session writer")

    async def run(self, receive: Callable[[UpMessage], None], allowance: Allowance | None = None) -> None:
        """Pass every valid message to `receive` until the other side closes the session.

        allowance: of the agent; None for one of this session alone
        Raises AgentProtocolError when the agent violates the contract, else an AgentError when the session breaks, and
        whatever has kept a message from being sent.
        """
        self._running = True
        self._start_writer()
        try:
            await self._read(receive, allowance or Allowance(self._clock()))
        finally:
            self._running = False
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait({self._writer})
            await self.close()
        if self._failure is not None:
            raise self._failure

    async def _read(self, receive: Callable[[UpMessage], None], allowance: Allowance) -> None:
        frames = self._channel.frames()
        try:
            async with asyncio.timeout(HELLO_LIMIT_S):
                first = await anext(frames, None)
        except TimeoutError:
            raise AgentProtocolError(f"the agent did not greet within {HELLO_LIMIT_S:.0f} s") from None
        if first is None:
            return
        await self._wait(allowance, first)
        self.hello = _greeting(first)
        del first
        receive(self.hello)
        async for frame in frames:
            await self._wait(allowance, frame)
            message = _decode(frame)
            if message["type"] == "hello":
                raise AgentProtocolError("the agent greeted twice")
            receive(message)
            del frame, message  # an idle session keeps no message

    async def _wait(self, allowance: Allowance, frame: bytes | str) -> None:
        """Nothing is read meanwhile: TCP flow control slows the agent down."""
        wait_s = allowance.take(self._clock(), len(frame))
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _write(self) -> None:
        try:
            while (message := self._outbox.take()) is not None:
                await self._send(message)
        except AgentUnreachableError:
            return  # the reader gets the end, too
        except Exception as error:  # nothing more would be sent, while the agent seems to be connected
            self._failure = error
            await self.close()
            return
        self._writer = None

    async def _send(self, message: Message) -> None:
        if isinstance(message, bytes | dict):
            await self._channel.send(message if isinstance(message, bytes) else orjson.dumps(message))
            return
        try:
            frame = await message.make()
            if frame is not None:
                await self._channel.send(frame)
        finally:
            message.written()

    async def close(self) -> None:
        """Close the connection; `run` returns."""
        self._closed = True
        await self._channel.close()


def _decode(frame: bytes | str) -> UpMessage:
    try:
        return decode_up(frame)
    except WireError as error:
        raise AgentProtocolError(f"the agent broke the protocol: {error}") from None


def _greeting(frame: bytes | str) -> HelloMessage:
    message = _decode(frame)
    if message["type"] != "hello":
        raise AgentProtocolError("the agent did not begin with a greeting")
    if message["version"] not in SUPPORTED_VERSIONS:
        raise AgentProtocolError(f"the agent greets in wire version {message['version']}, which was not agreed")
    return message
