"""SimulatedConnector: agentclient's AgentConnector without a network."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import msgspec
import orjson

from vk_provider.agentclient.base import ProtocolT
from vk_provider.agentclient.session import AgentSession
from vk_provider.aiokit.timers import Timers
from vk_provider.cloud.base import Instance
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.errors import AgentError, AgentUnreachableError
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_time
from vk_provider.wire import routes

STATS_INTERVAL_S = 10.0


class SimulatedChannel:
    """agentclient.session.Channel to an agent of this process; its answers wait here while `send` runs.

    There are thousands, nearly all of them idle: an asyncio.Queue is three kB.
    """

    __slots__ = ("_agent", "_answer", "_closed", "_reader", "_waiting")

    def __init__(self, agent: SimulatedAgent, answer: Callable[[SimulatedAgent, Json], list[Json]]) -> None:
        self._agent = agent
        self._answer = answer
        self._waiting: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None
        self._closed = False
        self.push(agent.hello())

    def push(self, messages: list[Json]) -> None:
        if not self._closed and messages:
            self._waiting += [orjson.dumps(message) for message in messages]
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def send(self, frame: bytes) -> None:
        if self._closed:
            raise AgentUnreachableError(f"session with {self._agent.instance.instance_id} is closed")
        self.push(self._answer(self._agent, _parse(frame)))

    async def frames(self) -> AsyncIterator[bytes | str]:
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            if self._closed:
                return
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def drop(self) -> None:
        """End the session from the agent's side."""
        if not self._closed:
            self._closed = True
            self._wake()

    async def close(self) -> None:
        self.drop()


class _TableHead(msgspec.Struct):
    """A table message but for its text, which may have megabytes and is not looked at."""

    type: str
    name: str
    base: str
    revision: str


_TABLE = msgspec.json.Decoder(_TableHead)


def _parse(frame: bytes) -> Json:
    if frame.startswith(b'{"type":"table"'):
        return msgspec.structs.asdict(_TABLE.decode(frame))
    message: Json = orjson.loads(frame)
    return message


class SimulatedResponse:
    """See agentclient.base.AgentResponse: a body that is there at once."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"Content-Type": content_type}
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body

    async def close(self) -> None:
        self._body = b""


class SimulatedConnector:
    """Connects to the agents of one SimulatedCloud, which live here."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud
        self._agents: dict[str, SimulatedAgent] = {}
        self._channels: dict[str, SimulatedChannel] = {}
        self._timers = Timers()
        self._stats: asyncio.Task[None] | None = None
        cloud.on_gone, cloud.on_stopped = self._on_gone, self._on_stopped

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        agent = self._agent(instance)
        if self._stats is None:
            self._stats = asyncio.create_task(self._push_stats(), name="simulated stats")
        previous = self._channels.get(instance.instance_id)
        if previous is not None:
            previous.drop()
        channel = SimulatedChannel(agent, self._answer)
        self._channels[instance.instance_id] = channel
        return AgentSession(channel)

    def _on_stopped(self, instance_id: str) -> None:
        """Its process has ended; what it has written stays on the disk."""
        channel = self._channels.pop(instance_id, None)
        if channel is not None:
            channel.drop()

    def _agent(self, instance: Instance) -> SimulatedAgent:
        instance_id = instance.instance_id
        if not self._cloud.is_booted(instance_id):
            raise AgentUnreachableError(f"no agent answers at {instance.primary_ip} ({instance_id})")
        return self._agents.setdefault(instance_id, SimulatedAgent(instance, format_time()))

    def _answer(self, agent: SimulatedAgent, message: Json) -> list[Json]:
        first = not agent.uid
        answers = agent.receive(message, format_time())
        if first and agent.uid and _is_of_job(message["pod"]):
            self._timers.later(self._cloud.config.job_run_s, lambda: self._complete(agent))
        return answers

    def _complete(self, agent: SimulatedAgent) -> None:
        channel = self._channels.get(agent.instance.instance_id)
        messages = agent.finish(format_time(), exit_code=0)
        if channel is not None:
            channel.push(messages)

    async def _push_stats(self) -> None:
        """One task for all agents; spread so that the loop is never held long."""
        while True:
            await asyncio.sleep(STATS_INTERVAL_S)
            for index, (instance_id, channel) in enumerate(list(self._channels.items())):
                agent = self._agents.get(instance_id)
                if agent is not None and agent.uid and not agent.finished:
                    channel.push([agent.stats(format_time())])
                if index % 50 == 49:
                    await asyncio.sleep(0)

    def _on_gone(self, instance_id: str) -> None:
        channel = self._channels.pop(instance_id, None)
        if channel is not None:
            channel.drop()
        self._agents.pop(instance_id, None)

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> SimulatedResponse:
        agent = self._agent(instance)
        options = dict(query or [])
        if path == routes.LOGS:
            return SimulatedResponse(200, _log(agent, options), "text/plain")
        if path == routes.RUN:
            return SimulatedResponse(200, b"simulated: " + options.get("cmd", "").encode() + b"\n", "text/plain")
        if path == routes.STATS and agent.uid:
            return SimulatedResponse(200, orjson.dumps(agent.stats(format_time())), "application/json")
        if path == routes.HEALTHZ:
            return SimulatedResponse(200, b"ok", "text/plain")
        return SimulatedResponse(404, b"404: Page Not Found", "text/plain")

    async def open_stream(
        self, instance: Instance, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        return self._refuse_streams()

    def _refuse_streams(self) -> NoReturn:
        raise AgentError("the simulated cloud runs no containers: no exec, attach or port-forward")

    async def drain(self, instance_id: str, limit_s: float) -> None:
        """Requests are answered within one turn of the loop."""

    async def renew(self, instance: Instance) -> None:
        """Does nothing: there is no certificate."""

    def renewal_delay_s(self, instance: Instance) -> float:
        return math.inf

    def forget(self, instance_id: str) -> None:
        self._on_gone(instance_id)

    async def close(self) -> None:
        self._timers.cancel()
        if self._stats is not None:
            self._stats.cancel()
            await asyncio.gather(self._stats, return_exceptions=True)
        for channel in list(self._channels.values()):
            channel.drop()


def _is_of_job(pod: dict[str, Any]) -> bool:
    return any(owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or [])


def _log(agent: SimulatedAgent, options: Mapping[str, str]) -> bytes:
    if options.get("previous") == "true" or options.get("tailLines") == "0":
        return b""
    line = f"simulated container {options.get('container', '')} on {agent.instance.instance_id}\n"
    if options.get("raw") == "true":
        line = f"{agent.started_at.removesuffix('Z')}.000000000Z stdout F {line}"
    elif options.get("timestamps") == "true":
        line = f"{agent.started_at.removesuffix('Z')}.000000000Z {line}"
    limit = options.get("limitBytes")
    return line.encode()[: int(limit)] if limit else line.encode()
