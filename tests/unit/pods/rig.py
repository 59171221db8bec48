"""A pod controller with everything around it in memory: a fake API server, the simulated cloud and its agents."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from vk_provider.agentclient.grants import Grants
from vk_provider.agentclient.session import AgentSession
from vk_provider.agentclient.tables import TableSource
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import Instance, InstanceRuntime
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.agent import SimulatedAgent
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.connector import SimulatedConnector, SimulatedResponse
from vk_provider.errors import AgentUnreachableError
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.poolstores import NoPoolImages, PoolImages
from vk_provider.instances.room import Doors, Instances
from vk_provider.jsontypes import Json
from vk_provider.pods.archive import ArchiveLimits, LogArchive
from vk_provider.pods.build import Boot, Cluster, Network, build_controller, build_room
from vk_provider.pods.controller import PodController
from vk_provider.pods.demands import PodDemands
from vk_provider.pods.executor import Logs
from vk_provider.pods.facts import NoFacts, PodFacts
from vk_provider.pods.identities import NoIdentities, PodIdentities
from vk_provider.pods.images import NoImages, PodImages
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.peers import NoPeers, PodPeers
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.settings import CloudSettings, NodeSettings, PoolSettings, Settings

from .fakeapi import FakeApi

NODE = "node-1"
OWNER = "test"
MASTER = "5a" * 32


class Connector(SimulatedConnector):
    """Agents that can be cut off. `unreachable` holds instance IDs, or "*" for all."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        super().__init__(cloud)
        self.unreachable: set[str] = set()
        self.forgotten: set[str] = set()

    def cut(self, instance_id: str) -> None:
        self.unreachable.add(instance_id)
        session = self._channels.pop(instance_id, None)
        if session is not None:
            session.drop()

    def _check(self, instance: Instance) -> None:
        if self.unreachable & {"*", instance.instance_id}:
            raise AgentUnreachableError("cut off")

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        self._check(instance)
        return await super().open_session(instance, fresh=fresh)

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> SimulatedResponse:
        self._check(instance)
        return await super().request(instance, method, path, query)

    def forget(self, instance_id: str) -> None:
        self.forgotten.add(instance_id)
        super().forget(instance_id)

    def stop_slowly(self, instance_id: str) -> list[str]:
        """The pod's containers take their whole grace period, until `end_pod`. Returns when stops were asked for."""
        agent, asked = self._agents[instance_id], list[str]()

        def finish(now: str, exit_code: int, pod: Json | None = None) -> list[Json]:
            asked.append(now)
            return []

        agent.finish = finish
        return asked

    def listen(self, instance_id: str) -> list[Json]:
        """What the agent is sent from now on."""
        agent, received = self._agents[instance_id], list[Json]()
        original = agent.receive

        def receive(message: Json, now: str) -> list[Json]:
            received.append(message)
            return original(message, now)

        agent.receive = receive
        return received

    def end_pod(self, instance_id: str, exit_code: int = 0) -> None:
        """All containers of the pod end by themselves."""
        messages = SimulatedAgent.finish(self._agents[instance_id], "2026-01-01T00:01:00Z", exit_code)
        self._channels[instance_id].push(messages)


class Services:
    """ServiceEnvironment: the same Services for every pod."""

    def __init__(self) -> None:
        self.known: list[Json] | None = []
        self.callbacks: dict[str, Callable[[], None]] = {}

    def entries(self, pod: Json) -> list[Json] | None:
        return self.known

    def change(self, known: list[Json]) -> None:
        self.known = known
        for callback in self.callbacks.values():
            callback()


class References:
    """ReferenceStore without references: remembers who is subscribed."""

    def __init__(self) -> None:
        self.subscribed: dict[str, Callable[[], None]] = {}
        self.services = Services()
        self.answer: Json = {"errors": {}}
        self.fail_once: Exception | None = None
        self.resolved = 0
        self.gate: asyncio.Event | None = None

    def subscribe(self, pod: Json, callback: Callable[[], None], on_services: Callable[[], None]) -> None:
        self.subscribed[pod["metadata"]["uid"]] = callback
        self.services.callbacks[pod["metadata"]["uid"]] = on_services

    def release(self, uid: str) -> None:
        self.subscribed.pop(uid, None)
        self.services.callbacks.pop(uid, None)

    def peek(self, pod: Json) -> Json | None:
        """As of pods that refer to something."""
        return None

    async def resolve(self, pod: Json) -> Json:
        self.resolved += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fail_once is not None:
            error, self.fail_once = self.fail_once, None
            raise error
        return copy.deepcopy(self.answer)


class Recorder:
    """EventRecorder that only remembers (reason, message), and the component of each reason. While `held` is a list,
    on_done is kept there."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.components: dict[str, str] = {}
        self.held: list[Callable[[], None]] | None = None

    def record(self, involved: Json, event_type: str, reason: str, message: str, *_: Any, **more: Any) -> None:
        self.events.append((reason, message))
        self.components[reason] = more.get("component", "kubelet")
        occurrence = more.get("occurrence")
        on_done = occurrence.on_done if occurrence is not None else None
        if on_done is not None and self.held is not None:
            self.held.append(on_done)
        elif on_done is not None:
            on_done()

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]


class World:
    """One cluster, one cloud; `start` begins the life of a provider process, `crash` ends it."""

    def __init__(self, directory: Path, config: SimulationConfig | None = None, daemonsets: str = "refuse") -> None:
        self.api = FakeApi()
        self.cloud = SimulatedCloud(config or SimulationConfig(), OWNER)
        self.connector = Connector(self.cloud)
        self.references = References()
        self.recorder = Recorder()
        self.archive = LogArchive(str(directory), ArchiveLimits(1 << 20, 4 << 20, 64 << 20, 5.0))
        self.settings = Settings(
            nodes=(NodeSettings(NODE),),
            cloud=CloudSettings(backend="simulated", owner=OWNER, boot_timeout_s=60.0),
        )
        self.boot_timeout_s = 60.0
        self.pools: tuple[PoolSettings, ...] = ()
        self.configuration = ""
        self._stocking: asyncio.Task[None] | None = None
        self.agent_monitor_grace_s = 40.0
        self.user_data = "boot"
        self.tables: list[TableSource] = []
        self.host_ports: list[tuple[str, str, tuple[HostPort, ...]]] = []
        self.node: Json | None = {"metadata": {"labels": {}}, "status": {"allocatable": {"cpu": "100", "pods": "50"}}}
        self.api.node = lambda: self.node
        self.images: PodImages = NoImages()
        self.pool_images: PoolImages = NoPoolImages()
        self.facts: PodFacts = NoFacts()
        self.ability = CloudAbility()
        self.peers: PodPeers = NoPeers()
        self.identities: PodIdentities = NoIdentities()
        self.controller: PodController
        self.room: Instances
        self.runtime = InstanceRuntime("containerd", "1.6.20")
        self._names = itertools.count(1)
        self._daemonsets = daemonsets

    async def start(self, *, adopt: bool = True) -> list[Instance]:
        """A new provider process; returns the surplus instances."""
        settings = Settings(
            nodes=self.settings.nodes,
            cloud=CloudSettings(
                backend="simulated",
                owner=OWNER,
                boot_timeout_s=self.boot_timeout_s,
                agent_monitor_grace_s=self.agent_monitor_grace_s,
            ),
            budget=self.settings.budget,
            pools=self.pools,
        )
        self.registry = registry = CollectorRegistry()
        self.room = build_room(
            settings,
            Doors(self.cloud, await self.cloud.describe_offerings(), self.runtime, self.connector, self.ability),
            Boot(
                lambda token: (f"generation/{token}", self.user_data),
                Grants(lambda: [MASTER]),
                self.configuration,
                self.pool_images,
            ),
            InstanceMetrics(registry),
        )
        self.controller = build_controller(
            settings,
            Cluster(self.api, self.references, self.recorder, lambda name: self.node),
            PodDemands(self.room, self.images, self.facts, self.peers, self.identities),
            Logs(self.archive, self.connector),
            Network(
                lambda record: self.tables,
                lambda node, pod, ports: self.host_ports.append((node, pod, ports)),
            ),
            PodMetrics(registry),
        )
        instances = await list_owned(self.cloud)
        for pod in self.api.pods.values():
            self.controller.on_pod(NODE, "ADDED", copy.deepcopy(pod))
        self.api.on_pod = lambda kind, pod: self.controller.on_pod(NODE, kind, pod)
        surplus = self.controller.adopt(instances) if adopt else instances
        if self.pools:
            self._stocking = asyncio.create_task(self.room.filling.run())
        return surplus

    async def crash(self) -> None:
        """kill -9: nothing is finished. Agents and instances live on."""
        self.api.on_pod = lambda kind, pod: None
        await self._stop_stocking()
        await self.controller._workers.close()
        await self.controller.close(0.0)
        for session in list(self.connector._channels.values()):
            session.drop()

    async def _stop_stocking(self) -> None:
        if self._stocking is not None:
            self._stocking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._stocking

    async def stop(self) -> None:
        await self._stop_stocking()
        await self.controller.close(1.0)
        await self.connector.close()

    def pod(self, **spec: Any) -> Json:
        name = f"p{next(self._names)}"
        return {
            "metadata": {"name": name, "namespace": "default", "uid": str(uuid.uuid4()), "generation": 1},
            "spec": {
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
                "restartPolicy": "Always",
                **spec,
            },
            "status": {"phase": "Pending"},
        }

    def record(self, pod: Json) -> PodRecord | None:
        return self.controller.records.get(pod["metadata"]["uid"])

    def live(self) -> list[Instance]:
        return [item for item in self.cloud._instances.values() if not item.state.is_terminated]

    def live_of(self, pod: Json) -> list[Instance]:
        """By tag, or by what the provider says: a launch for many pods has no tags of one."""
        uid = pod["metadata"]["uid"]
        given = {each.instance_id for each in self.room.table.owned.values() if each.pod_uid == uid}
        return [
            item for item in self.live() if item.tags.get("vk-provider/pod-uid") == uid or item.instance_id in given
        ]

    async def until(self, condition: Callable[[], Any], limit_s: float = 30.0) -> None:
        """Wait for what other tasks do."""
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - a test may look at anything
                await asyncio.sleep(0.005)

    async def running(self, **spec: Any) -> Json:
        """A pod that runs, as the API server knows it."""
        pod = self.api.add(self.pod(**spec))
        await self.until(lambda: self.api.status(pod).get("phase") == "Running")
        return pod

    async def settle(self) -> None:
        """Until no pod is worked on."""
        await asyncio.sleep(0.02)
        await self.until(lambda: len(self.controller._workers) == 0)


def tell_after_greeting(monkeypatch: pytest.MonkeyPatch, features: list[str], *messages: Json) -> None:
    """Let agents greet with these features, and send `messages` right after it."""
    greet = SimulatedAgent.hello

    def hello(agent: SimulatedAgent) -> list[Json]:
        first, *more = greet(agent)
        return [{**first, "features": features}, *messages, *more]

    monkeypatch.setattr(SimulatedAgent, "hello", hello)
