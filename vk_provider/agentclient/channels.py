"""What connections to agents carry, bounded: frames of the session, streamed and short answers, and their errors."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp

from vk_provider.agentclient.answers import clean_headers
from vk_provider.agentclient.paced import Pace, PacedProtocol
from vk_provider.agentclient.pins import KeyRefused
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentError, AgentIdentityError, AgentProtocolError, AgentUnreachableError
from vk_provider.wire.exchange import MAX_EXCHANGE_BYTES


class WebSocketChannel:
    """session.Channel over a WebSocket."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, pace: Pace) -> None:
        self._websocket = websocket
        self._pings = pace.pings
        self._paced = _install(websocket, pace)

    async def send(self, frame: bytes) -> None:
        try:
            await self._websocket.send_bytes(frame)
        except (ConnectionError, aiohttp.ClientError, RuntimeError) as error:
            raise AgentUnreachableError(f"session closed: {error}") from None

    async def frames(self) -> AsyncIterator[bytes | str]:
        async for frame in self._websocket:
            if frame.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                yield frame.data
            elif frame.type is aiohttp.WSMsgType.PING:
                await self._answer_ping(frame.data)
                await asyncio.sleep(self._pings.take(time.monotonic()))
            elif frame.type is aiohttp.WSMsgType.PONG:
                await asyncio.sleep(self._pings.take(time.monotonic()))
            elif frame.type is aiohttp.WSMsgType.ERROR:
                raise _broken(frame.data)
            del frame  # an idle session keeps no message

    async def _answer_ping(self, data: bytes) -> None:
        try:
            await self._websocket.pong(data)
        except (ConnectionError, aiohttp.ClientError, RuntimeError):
            pass  # closed: the reader gets the end next

    async def close(self) -> None:
        # The agent's part in closing is not waited for: aiohttp would read on as long as it sends anything else.
        if self._paced is not None:
            self._paced.stop()
        await self._websocket.close()


class HttpsResponse:
    """AgentResponse over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse, on_close: Callable[[], None]) -> None:
        self._response = response
        self._on_close: Callable[[], None] | None = on_close
        self.status = response.status
        self.headers: Mapping[str, str] = clean_headers(response.headers)

    async def iter_any(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise AgentUnreachableError(f"the agent's answer broke off: {error}") from None

    async def close(self) -> None:
        self._response.close()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


async def read_bounded(instance: Instance, response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer of the identity exchange; raises AgentError when it is longer than the limit."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_EXCHANGE_BYTES:
            raise AgentProtocolError(f"{instance.instance_id}: an answer of more than {MAX_EXCHANGE_BYTES} bytes")
    return bytes(data)


def _install(websocket: aiohttp.ClientWebSocketResponse, pace: Pace) -> PacedProtocol | None:
    """Bound what parsing the session's frames may cost; None when it is closed already."""
    connection = websocket._response.connection
    if connection is None or connection.transport is None:
        return None
    return PacedProtocol.install(connection.transport, pace.parsing)


def _broken(error: Any) -> AgentError:
    """The error of a frame that the WebSocket refuses. aiohttp's text is left out, as it may quote the frame."""
    if isinstance(error, aiohttp.WebSocketError):
        return AgentProtocolError(f"the agent broke the protocol: WebSocket close code {error.code}")
    return AgentUnreachableError(f"the session broke: {type(error).__name__}")


def translate(instance: Instance, error: BaseException) -> AgentError:
    causes = (error, error.__cause__, getattr(error, "certificate_error", None))
    for cause in causes:
        if isinstance(cause, KeyRefused):
            return AgentIdentityError(str(cause.args[-1]))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return AgentIdentityError(f"{instance.instance_id}: the agent has no certificate of ours")
    return AgentUnreachableError(f"{instance.instance_id}: {str(error) or type(error).__name__}")
