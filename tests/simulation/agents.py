"""Simulated agents and the connections to them. An agent keeps a journal: pod, status and events outlive its process.

`Fleet` holds all of them and what truly runs; `Connector` is what one provider process dials with.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import orjson

from tests.simulation.loop import IN_ORDER_S, outside_later
from vk_provider.agentclient.base import ProtocolT
from vk_provider.agentclient.session import AgentSession
from vk_provider.cloud.base import Instance
from vk_provider.cloud.simulated.agent import SimulatedAgent, _running
from vk_provider.cloud.simulated.connector import SimulatedResponse, _parse
from vk_provider.errors import AgentError, AgentUnreachableError
from vk_provider.jsontypes import Json, to_text
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.rfc3339 import format_time
from vk_provider.wire import routes

LATENCY_S = (0.001, 0.02)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the containers of one pod behave: seconds until they run, until they end by themselves (None: never) with
    `exit_code`, and until they have stopped when asked to."""

    start_s: float
    run_s: float | None
    exit_code: int
    stop_s: float


class Core(SimulatedAgent):
    """The agent's decisions, with containers that take their time. `on_pod`: first pod; `on_stop`: it is to be
    stopped."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance, format_time())
        self.restarts = 0
        self.stopping = False
        self.references: Json = {}
        self.services: list[Json] = []
        self.on_first: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None

    @property
    def has_run(self) -> bool:
        """Whether containers run now, or have."""
        return bool(self._running_since)

    @property
    def runs(self) -> bool:
        """Whether containers run now."""
        return bool(self._running_since) and not self.finished

    def receive(self, message: Json, now: str) -> list[Json]:
        if message["type"] == "stop":
            if self.uid and not self.finished:
                self._ask_to_stop()
            return []
        self.references = message.get("references", self.references)
        self.services = message.get("services", self.services)
        return super().receive(message, now)

    def _on_pod(self, pod: Json, now: str) -> list[Json]:
        uid, first = str(pod["metadata"]["uid"]), not self.uid
        if not first and uid != self.uid:
            return []  # an agent serves one pod in its life
        self.uid, self._pod = uid, to_text(pod)
        ending = pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in TERMINAL_PHASES
        if ending:
            if first:
                return self.finish(now, exit_code=0)
            if not self.finished:
                self._ask_to_stop()
        elif first:
            self.on_first()
        elif self.runs:
            return self._report(pod, now)
        return []

    def _ask_to_stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self.on_stop()

    def start(self, now: str) -> list[Json]:
        """The containers run."""
        pod = self.pod
        if pod is None or self.finished or self.stopping or self.runs:
            return []
        self._running_since = now
        self._record_start(pod, now)
        return [*self._report(pod, now), *self.events]

    def restart(self, now: str) -> list[Json]:
        """A container has crashed and runs again."""
        pod = self.pod
        if pod is None or not self.runs or self.stopping:
            return []
        self.restarts += 1
        return self._report(pod, now)

    def _report(self, pod: Json, now: str) -> list[Json]:
        before = self._status
        statuses = [
            {**_running(each, self._running_since, self._id(each)), "restartCount": self.restarts}
            for each in pod["spec"]["containers"]
        ]
        self._build(pod, now, statuses)
        return [self._status_message()] if self._status != before else []


@dataclass
class Agent:
    """One instance's agent.

    is_off: its instance is stopped, and may boot again; cut_until: no connection before; mute_until: connections are
    accepted and nothing is said
    """

    instance: Instance
    core: Core
    boots_at: float
    behaviour: Behaviour | None = None
    is_gone: bool = False
    is_off: bool = False
    cut_until: float = 0.0
    mute_until: float = 0.0
    channel: Channel | None = None
    doomed: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def answers(self, now: float) -> bool:
        return not (self.is_gone or self.is_off) and now >= max(self.boots_at, self.cut_until)


class Channel:
    """agentclient.session.Channel: frames arrive in order, with latency, until one side closes."""

    def __init__(self, fleet: Fleet, agent: Agent) -> None:
        self._fleet, self._agent = fleet, agent
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._up_at = self._down_at = 0.0
        self.closed = False

    # --- the provider's side -----------------------------------------------------------------------------------------

    async def send(self, frame: bytes) -> None:
        if self.closed:
            raise AgentUnreachableError(f"session with {self._agent.instance.instance_id} is closed")
        now = asyncio.get_running_loop().time()
        self._down_at = max(self._down_at + IN_ORDER_S, now + self._fleet.latency_s())
        outside_later(self._down_at - now, self._arrive, frame)

    async def frames(self) -> AsyncIterator[bytes | str]:
        while (frame := await self._queue.get()) is not None:
            yield frame

    async def close(self) -> None:
        self.drop()

    # --- the agent's side --------------------------------------------------------------------------------------------

    def _arrive(self, frame: bytes) -> None:
        if not self.closed and self._agent.channel is self:
            self._fleet.receive(self._agent, _parse(frame))

    def push(self, messages: Sequence[Json | bytes]) -> None:
        now = asyncio.get_running_loop().time()
        for message in messages:
            if self.closed:
                return
            self._up_at = max(self._up_at + IN_ORDER_S, now + self._fleet.latency_s())
            frame = message if isinstance(message, bytes) else orjson.dumps(message)
            outside_later(self._up_at - now, self._deliver, frame)

    def _deliver(self, frame: bytes) -> None:
        if not self.closed:
            self._queue.put_nowait(frame)

    def drop(self) -> None:
        """What is on its way is lost."""
        if not self.closed:
            self.closed = True
            if self._agent.channel is self:
                self._agent.channel = None
            outside_later(0.0, self._queue.put_nowait, None)


class Fleet:
    """All agents. `behave(uid, pod)` says how a pod's containers behave; `on_start(agent)` when they begin to run;
    `on_given(agent)` when an agent has accepted a pod, `on_message(agent, message)` before it takes what it was sent.
    `greet(agent, messages)`: what it says at first."""

    def __init__(self, rng: random.Random, behave: Callable[[Json], Behaviour]) -> None:
        self._rng = rng
        self._behave = behave
        self.agents: dict[str, Agent] = {}
        self.on_start: Callable[[Agent], None] = lambda agent: None
        self.on_ended: Callable[[Agent], None] = lambda agent: None
        self.on_message: Callable[[Agent, Json], None] = lambda agent, message: None
        self.greet: Callable[[Agent, list[Json]], Sequence[Json | bytes]] = lambda agent, messages: messages

    def latency_s(self) -> float:
        return self._rng.uniform(*LATENCY_S)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # --- instances ---------------------------------------------------------------------------------------------------

    def boot(self, instance: Instance, boot_s: float) -> None:
        agent = Agent(instance, Core(instance), self.now() + boot_s)
        self.agents[instance.instance_id] = agent
        agent.core.on_first = lambda: self._accepted(agent)
        agent.core.on_stop = lambda: self._stop(agent)

    def power_off(self, instance_id: str) -> None:
        """The instance has stopped: its processes are gone, its disk stays."""
        agent = self.agents[instance_id]
        if not agent.is_gone:
            agent.is_off = True
            for timer in agent.timers:
                timer.cancel()
            self._close(agent)

    def boot_again(self, instance: Instance, boot_s: float) -> None:
        """From the same disk."""
        agent = self.agents[instance.instance_id]
        agent.is_off, agent.boots_at = False, self.now() + boot_s

    def end(self, instance_id: str) -> None:
        """The instance's processes are gone."""
        agent = self.agents.get(instance_id)
        if agent is None or agent.is_gone:
            return
        agent.is_gone = True
        for timer in agent.timers:
            timer.cancel()
        self._close(agent)
        self.on_ended(agent)

    def _later(self, agent: Agent, delay_s: float, action: Callable[[Agent], None]) -> None:
        agent.timers.append(outside_later(delay_s, action, agent))

    # --- pods --------------------------------------------------------------------------------------------------------

    def receive(self, agent: Agent, message: Json) -> None:
        self.on_message(agent, message)
        self._tell(agent, agent.core.receive(message, format_time()))

    def _tell(self, agent: Agent, messages: list[Json]) -> None:
        if agent.channel is not None and self.now() >= agent.mute_until:
            agent.channel.push(messages)
        if agent.core.finished:
            self.on_ended(agent)

    def _accepted(self, agent: Agent) -> None:
        pod = agent.core.pod
        assert pod is not None
        agent.behaviour = self._behave(pod)
        self._later(agent, agent.behaviour.start_s, self._start)

    def _start(self, agent: Agent) -> None:
        before = agent.core.runs
        messages = agent.core.start(format_time())
        if agent.core.runs and not before:
            self.on_start(agent)
            behaviour = agent.behaviour
            assert behaviour is not None
            if behaviour.run_s is not None:
                self._later(agent, behaviour.run_s, self._complete)
        self._tell(agent, messages)

    def _complete(self, agent: Agent) -> None:
        behaviour = agent.behaviour
        assert behaviour is not None
        if not agent.core.stopping:
            self._tell(agent, agent.core.finish(format_time(), behaviour.exit_code))

    def _stop(self, agent: Agent) -> None:
        stop_s = agent.behaviour.stop_s if agent.behaviour is not None and agent.core.runs else 0.05
        self._later(agent, stop_s, lambda agent: self._tell(agent, agent.core.finish(format_time(), 0)))

    def crash_container(self, instance_id: str) -> None:
        agent = self.agents.get(instance_id)
        if agent is not None and not agent.is_gone:
            self._tell(agent, agent.core.restart(format_time()))

    # --- connections -------------------------------------------------------------------------------------------------

    def cut(self, instance_id: str, seconds: float) -> None:
        """The network to the agent is away; or its process restarts, which is the same with a journal."""
        agent = self.agents.get(instance_id)
        if agent is not None:
            agent.cut_until = max(agent.cut_until, self.now() + seconds)
            self._close(agent)

    def mute(self, instance_id: str, seconds: float) -> None:
        """Sessions are accepted, but nothing is said, as by an agent that hangs."""
        agent = self.agents.get(instance_id)
        if agent is not None:
            agent.mute_until = self.now() + seconds
            self._close(agent)

    def _close(self, agent: Agent) -> None:
        if agent.channel is not None:
            agent.channel.drop()

    def open(self, instance_id: str) -> Channel:
        agent = self.find(instance_id)
        self._close(agent)
        channel = agent.channel = Channel(self, agent)
        if self.now() >= agent.mute_until:
            channel.push(self.greet(agent, agent.core.hello()))
        return channel

    def find(self, instance_id: str) -> Agent:
        """The agent, if it answers."""
        agent = self.agents.get(instance_id)
        if agent is None or not agent.answers(self.now()):
            raise AgentUnreachableError(f"no agent answers at {instance_id}")
        return agent

    def hang_up(self, channels: list[Channel]) -> None:
        """The connections of a provider that was killed."""
        for channel in channels:
            channel.drop()


class Connector:
    """agentclient.base.AgentConnector of one process."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.channels: list[Channel] = []

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        await asyncio.sleep(self._fleet.latency_s())
        channel = self._fleet.open(instance.instance_id)
        self.channels = [each for each in self.channels if not each.closed] + [channel]
        return AgentSession(channel)

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> SimulatedResponse:
        await asyncio.sleep(self._fleet.latency_s())
        agent = self._fleet.find(instance.instance_id)
        if path != routes.LOGS or self._fleet.now() < agent.mute_until:
            return SimulatedResponse(404, b"", "text/plain")
        return SimulatedResponse(200, b"2026-01-01T00:00:00.000000000Z stdout F a line\n", "text/plain")

    async def open_stream(
        self, instance: Instance, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise AgentError("no streams are simulated")

    async def drain(self, instance_id: str, limit_s: float) -> None:
        """No requests are open."""

    async def renew(self, instance: Instance) -> None:
        """There is no certificate."""

    def renewal_delay_s(self, instance: Instance) -> float:
        return 1e9

    def forget(self, instance_id: str) -> None:
        for channel in self.channels:
            if channel._agent.instance.instance_id == instance_id:
                channel.drop()

    async def close(self) -> None:
        self._fleet.hang_up(self.channels)
