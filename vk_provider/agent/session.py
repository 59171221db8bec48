"""The session with the provider: one WebSocket, messages as wire.session describes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from vk_provider.agent.outbox import Outbox
from vk_provider.jsontypes import Json
from vk_provider.wire import routes
from vk_provider.wire.packed import PACKED_FEATURE, takes_packed
from vk_provider.wire.session import FEATURES, MAX_DOWN_BYTES, MAX_UP_BYTES, HelloMessage
from vk_provider.wire.tables import TABLES_FEATURE, TableStates
from vk_provider.wire.version import SUPPORTED_VERSIONS

__all__ = ["Outbox", "SessionHandler"]

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
CLOSE_LIMIT_S = 1.0

Receiver = Callable[[Json], None]


class SessionHandler:
    """Serves routes.SESSION. One session at a time: a newer one replaces the older.

    receive: called with each message but acknowledgements; must not block.
    pod_uid: UID of the pod this instance was given, "" before.
    tables:  revisions of the tables in force; None when nobody applies any.
    memory_bytes: what the instance's operating system has; 0 where the instance is not the whole machine.
    grant:   that came with the pod (wire.session.NodeFacts), "" without one.
    """

    def __init__(
        self,
        outbox: Outbox,
        receive: Receiver,
        pod_uid: Callable[[], str],
        instance_id: str,
        started_at: str,
        tables: Callable[[], TableStates] | None = None,
        memory_bytes: int = 0,
        grant: Callable[[], str] = lambda: "",
    ) -> None:
        self._outbox = outbox
        self._receive = receive
        self._pod_uid = pod_uid
        self._instance_id = instance_id
        self._started_at = started_at
        self._tables = tables
        self._memory_bytes = memory_bytes
        self._grant = grant
        self._current: _Session | None = None
        self.opened = 0

    def add_routes(self, app: web.Application) -> None:
        """Install the session's route."""
        app.router.add_get(routes.SESSION, self.handle)
        app.on_shutdown.append(self._close_current)

    @property
    def is_open(self) -> bool:
        return self._current is not None

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """One session from its upgrade to its end."""
        websocket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MAX_DOWN_BYTES, timeout=CLOSE_LIMIT_S
        )
        await websocket.prepare(request)
        session = _Session(websocket)
        previous, self._current = self._current, session
        self.opened += 1
        log.info("session opened by %s", request.remote)
        try:
            if previous is not None:
                log.info("it replaces the open one")
                await previous.stop_writing()
                previous.close_soon()
            if self._current is session:  # else a newer one has replaced it meanwhile
                session.start_writing(self._write(websocket))
            await self._read(websocket)
        finally:
            if self._current is session:
                self._current = None
            await session.stop_writing()
            log.info("session closed (%s)", websocket.close_code)
        return websocket

    def _greet(self) -> HelloMessage:
        hello = HelloMessage(
            type="hello",
            version=max(SUPPORTED_VERSIONS),
            features=list(FEATURES),
            instanceID=self._instance_id,
            podUID=self._pod_uid(),
            agentStartedAt=self._started_at,
        )
        if grant := self._grant():
            hello["grant"] = grant
        if self._tables is not None:
            hello["features"] = [*FEATURES, TABLES_FEATURE, *([PACKED_FEATURE] if takes_packed() else [])]
            hello["tables"] = self._tables()
        if self._memory_bytes:
            hello["memoryBytes"] = self._memory_bytes
        return hello

    async def _write(self, websocket: web.WebSocketResponse) -> None:
        try:
            self._outbox.start_session()
            await websocket.send_bytes(orjson.dumps(self._greet()))
            while True:
                for message in await self._outbox.take():
                    frame = _encode(message)
                    if frame is not None:
                        await websocket.send_bytes(frame)
        except ConnectionError as error:  # the reader gets the end, too
            log.info("session: sending failed: %s", error)
        except Exception:
            log.exception("session: a message could not be sent")
            await websocket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"internal error")

    async def _read(self, websocket: web.WebSocketResponse) -> None:
        async for frame in websocket:
            if frame.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                continue
            message = _parse(frame.data)
            if message is None:
                await websocket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"not a message")
                return
            self._dispatch(message)

    def _dispatch(self, message: Json) -> None:
        if message["type"] == "ack":
            self._outbox.acknowledge(int(message["seq"]))
            return
        self._receive(message)

    async def _close_current(self, _: web.Application) -> None:
        if self._current is not None:
            await self._current.websocket.close(code=WSCloseCode.GOING_AWAY, message=b"the agent stops")


class _Session:
    """An open WebSocket and the task that writes to it."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self.websocket = websocket
        self._writer: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[bool] | None = None

    def start_writing(self, coroutine: Any) -> None:
        self._writer = asyncio.create_task(coroutine, name="session-writer")

    async def stop_writing(self) -> None:
        """Returns when this session sends no more, so that another one may take from the outbox."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
            self._writer = None

    def close_soon(self) -> None:
        """Close without waiting for the other side, which may be dead."""
        close = self.websocket.close(code=WSCloseCode.GOING_AWAY, message=b"replaced by a newer session")
        self._closing = asyncio.create_task(close, name="session-close")


def _encode(message: Json) -> bytes | None:
    """The message within the limit of the contract: a sample without its longest part, or none at all."""
    frame = orjson.dumps(message)
    if len(frame) > MAX_UP_BYTES and message.pop("cadvisor", None) is not None:
        frame = orjson.dumps(message)
    if len(frame) > MAX_UP_BYTES:
        log.error("a %s message of %d bytes is not sent: the limit is %d", message["type"], len(frame), MAX_UP_BYTES)
        return None
    return frame


def _parse(data: bytes | str) -> Json | None:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) and isinstance(message.get("type"), str) else None
