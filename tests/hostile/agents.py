"""Agents of the test's instances: an honest one made of the real agent's parts, and one that does what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from tests.hostile.echo import EchoRuntime
from tests.hostile.templates import ALL_FEATURES
from tests.listener import hello
from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.logs import add_log_routes
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.server import AgentServer
from vk_provider.agent.session import SessionHandler
from vk_provider.agent.streams import add_stream_routes
from vk_provider.cloud.base import Instance
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_time
from vk_provider.wire import routes
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.version import SUPPORTED_VERSIONS

LOG_TEXT = "an honest line\nand another\n"
STATS_INTERVAL_S = 1.0
MEMORY_RSS = 6 << 20
PROBES = 41


class _View:
    """vk_provider.agent.view.PodView on the story of a simulated agent."""

    sandbox_id = "s"

    def __init__(self, story: SimulatedAgent, log: Path) -> None:
        self._story, self._log = story, log

    @property
    def pod(self) -> Json | None:
        return self._story.pod

    @property
    def status(self) -> Json:
        return self._story.status or {}

    def container_spec(self, name: str) -> Json | None:
        containers = self._story.pod["spec"]["containers"] if self._story.pod else []
        return next((item for item in containers if item["name"] == name), None)

    def container_id(self, name: str) -> str:
        return "c"

    def log_path(self, container_id: str) -> str | None:
        return str(self._log)

    def volume_paths(self) -> dict[str, str]:
        return {}


class HonestAgent:
    """Server, identity, outbox, session, logs and run are the real agent's; the pod's story is the simulated one's."""

    def __init__(self, instance: Instance, boot: BootData, directory: Path) -> None:
        self.instance = instance
        self._identity = AgentIdentity(directory, instance.instance_id, boot.ca_pem, boot.boot_secret)
        self._identity.load_or_create()
        self._story = SimulatedAgent(instance, format_time())
        self._outbox = Outbox()
        self._server = AgentServer(self._identity)
        session = SessionHandler(
            self._outbox, self._take, lambda: self._story.uid, instance.instance_id, self._story.started_at
        )
        log = directory / instance.instance_id / "c.log"
        log.write_text("".join(f"{format_time()[:-1]}.000000000Z stdout F {line}\n" for line in LOG_TEXT.splitlines()))
        view: Any = _View(self._story, log)
        self._runtime = EchoRuntime()
        runtime: Any = self._runtime
        session.add_routes(self._server.app)
        add_log_routes(self._server.app, view, runtime)
        add_stream_routes(self._server.app, view, runtime)
        self._stats: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        await self._runtime.start()
        await self._server.start(self.instance.primary_ip, port)
        self._stats = asyncio.create_task(self._send_stats(), name="honest stats")

    async def stop(self) -> None:
        if self._stats is not None:
            self._stats.cancel()
            await asyncio.wait({self._stats})
        await self._server.stop()
        await self._runtime.stop()

    def _take(self, message: Json) -> None:
        for answer in self._story.receive(message, format_time()):
            if answer["type"] == "status":
                self._outbox.send_status(answer["podUID"], self._story.status or {}, answer["finished"])
            elif answer["type"] == "event":
                self._outbox.send_event(answer["podUID"], answer["eventType"], answer["reason"], answer["message"])
        if self._story.pod is not None and not self._story.finished:
            self._outbox.send_stats(self._sample())

    def _sample(self) -> Any:
        sample = self._story.stats(format_time())
        sample["cadvisor"] = [{"container": "c", "id": "/c", "samples": [["container_memory_rss", {}, MEMORY_RSS]]}]
        sample["probes"] = [{"container": "c", "probeType": "Liveness", "result": "successful", "count": PROBES}]
        return sample

    async def _send_stats(self) -> None:
        while True:
            await asyncio.sleep(STATS_INTERVAL_S)
            if self._story.pod is not None and not self._story.finished:
                self._outbox.send_stats(self._sample())


Handler = Callable[["HostileAgent", web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[["HostileAgent", "Session"], Awaitable[None]]


async def wait_for_end(agent: HostileAgent, session: Session) -> None:
    """Say nothing more; returns when the provider closes."""
    await session.closed.wait()


def greet(agent: HostileAgent) -> Json:
    """The honest greeting, with every feature."""
    return hello(agent.instance.instance_id, agent.uid, ALL_FEATURES)


@dataclass
class Script:
    """What a hostile agent does.

    talk:     called in each session, after the greeting
    greeting: what the session begins with, None: nothing; called with the agent
    handlers: instead of the honest answers, by path; "*" for every path but those of the identity exchange
    context:  TLS context to serve with instead of the identity's
    ready:    waits for the pod and tells an honest Running first
    """

    talk: Talk = wait_for_end
    greeting: Callable[[HostileAgent], Any] | None = lambda agent: greet(agent)
    handlers: dict[str, Handler] = field(default_factory=dict)
    context: Callable[[HostileAgent], ssl.SSLContext] | None = None
    ready: bool = True


async def drain(request: web.Request) -> None:
    """Wait until the provider takes more; one turn of the loop at least. Raises ConnectionError when it hung up."""
    await asyncio.sleep(0)
    while True:
        transport: Any = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionError("closed")
        if transport.get_write_buffer_size() <= 65_536:
            return
        await asyncio.sleep(0.005)


class Session:
    """One WebSocket of a hostile agent. A reader notes pods, pongs and the end."""

    def __init__(self, agent: HostileAgent, request: web.Request, websocket: web.WebSocketResponse) -> None:
        self._agent, self.request, self.websocket = agent, request, websocket
        self.closed = asyncio.Event()
        self._pongs = 0
        self._ponged = asyncio.Event()
        self.pings = 0

    async def say(self, message: Any) -> None:
        """A JSON value, or bytes as they are. Raises ConnectionError when the session is closed."""
        data = message if isinstance(message, bytes) else orjson.dumps(message)
        await self.websocket.send_bytes(data)

    def write(self, data: bytes) -> None:
        """Bytes below the WebSocket: a frame of the test's own making."""
        assert self.request.transport is not None
        self.request.transport.write(data)

    async def drain(self) -> None:
        """See `drain`."""
        await drain(self.request)

    async def is_read(self, limit_s: float = 20.0) -> bool:
        """Whether the provider has read everything that was said; False when it closed the session instead."""
        self.pings += 1
        number = self.pings
        with contextlib.suppress(ConnectionError):
            await self.websocket.ping(b"%d" % number)
        async with asyncio.timeout(limit_s):
            while self._pongs < number and not self.closed.is_set():
                self._ponged.clear()
                await self._ponged.wait()
        return self._pongs >= number

    async def read(self) -> None:
        async for frame in self.websocket:
            if frame.type is WSMsgType.PONG:
                self._pongs += 1
                self._ponged.set()
            elif frame.type is WSMsgType.PING:
                await self.websocket.pong(frame.data)
            elif frame.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                self._agent.take(orjson.loads(frame.data))
        self.closed.set()
        self._ponged.set()


class HostileAgent:
    """Identifies itself as it should unless the script says otherwise, then does what the script says."""

    def __init__(self, instance: Instance, boot: BootData, directory: Path, script: Script) -> None:
        self.instance, self.boot, self.script = instance, boot, script
        self.identity = AgentIdentity(directory, instance.instance_id, boot.ca_pem, boot.boot_secret)
        self.identity.load_or_create()
        self.story = SimulatedAgent(instance, format_time())
        self.requests: Counter[str] = Counter()
        self.sessions: list[Session] = []
        self.failures: list[BaseException] = []
        self.given = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def uid(self) -> str:
        return self.story.uid

    async def start(self, port: int) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        context = self.script.context(self) if self.script.context else self.identity.context
        await web.TCPSite(self._runner, self.instance.primary_ip, port, ssl_context=context).start()

    async def stop(self) -> None:
        for session in self.sessions:
            if session.request.transport is not None:
                session.request.transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    def take(self, message: Json) -> None:
        self.story.receive(message, format_time())
        if message["type"] == "pod":
            self.given.set()

    def status(self, **changes: Any) -> Json:
        """The honest status message of the pod, with changes of its status."""
        assert self.story.status is not None
        status = {**self.story.status, **changes}
        return {"type": "status", "podUID": self.story.uid, "status": status, "finished": self.story.finished}

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path] += 1
        identity = request.path in (routes.IDENTITY_REQUEST, routes.IDENTITY_CERTIFICATE)
        handler = self.script.handlers.get(request.path) or (None if identity else self.script.handlers.get("*"))
        if handler is not None:
            return await handler(self, request)
        if request.path == routes.IDENTITY_REQUEST:
            return web.json_response(self.answer_identity((await request.json())["nonce"]))
        if request.path == routes.IDENTITY_CERTIFICATE:
            self.identity.accept((await request.json())["certificate"])
            return web.Response(status=204)
        if request.path == routes.SESSION:
            return await self._hold_session(request)
        return web.Response(text="hostile\n")

    def answer_identity(self, nonce: str) -> Json:
        return self.identity.answer(nonce, SUPPORTED_VERSIONS)

    async def _hold_session(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(compress=False, autoping=False, max_msg_size=0, timeout=0.1)
        try:
            await websocket.prepare(request)
        except ConnectionError:
            return websocket
        session = Session(self, request, websocket)
        self.sessions.append(session)
        reader = asyncio.create_task(session.read(), name="hostile reader")
        try:
            if self.script.greeting is not None:
                await session.say(self.script.greeting(self))
            if self.script.ready:
                await self._until_given(session)
            await self.script.talk(self, session)
        except ConnectionError:
            pass  # the provider has closed the session
        except Exception as error:
            self.failures.append(error)
        finally:
            reader.cancel()
            await asyncio.wait({reader})
            if request.transport is not None:
                request.transport.abort()
        return websocket

    async def _until_given(self, session: Session) -> None:
        given = asyncio.create_task(self.given.wait())
        closed = asyncio.create_task(session.closed.wait())
        await asyncio.wait({given, closed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (given, closed):
            task.cancel()
        if not self.given.is_set():
            raise ConnectionError("closed before a pod came")
        if self.story.status is not None:
            await session.say(self.status())
