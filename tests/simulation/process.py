"""One life of the provider: `app._run`, as `vk-provider run` starts it, until it is stopped, killed or ends by itself.

What is replaced is the outside of the process alone: HTTP sessions, cloud and connector, ports, the store of its
secrets.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from tests.simulation.agents import Connector, Fleet
from tests.simulation.apiserver.network import Network, NoCredentials, Transport
from tests.simulation.cloud import OWNER, CloudServer
from tests.simulation.cloudclient import CloudClient
from tests.simulation.loop import PROCESS, SimulationLoop, outside_soon
from tests.simulation.stores import Registry
from vk_provider import app, foundation, kubelets, leader, metrics, node_service
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.cloud.limitedabilities import LimitedImageStores
from vk_provider.errors import BadStartError
from vk_provider.kube import client as client_module
from vk_provider.settings import (
    CloudSettings,
    KubeletSettings,
    LedgerSettings,
    NodeSettings,
    PodSettings,
    PoolSettings,
    Settings,
)

NODE = "nodeless"
ADDRESS = "192.0.2.10"
MASTER = "5a" * 32
_graveyard: list[Any] = []
"""What a killed process leaves is kept: to collect it would run its `finally` blocks."""


def build_settings(directory: str, pools: tuple[PoolSettings, ...] = ()) -> Settings:
    return Settings(
        nodes=(NodeSettings(NODE, address=ADDRESS, services_here="off"),),
        cloud=CloudSettings(backend="simulated", owner=OWNER, boot_timeout_s=120.0),
        kubelet=KubeletSettings(client_ca_file="", certificate_dir=f"{directory}/pki"),
        pods=PodSettings(archive_dir=f"{directory}/archive"),
        ledger=LedgerSettings(file=f"{directory}/ledger"),
        pools=pools,
    )


class Identities:
    """agentclient.identity_store.IdentityStore: what is in the state directory. No keys are made."""

    def __init__(self, now: float) -> None:
        self._kept = ProviderIdentity("a CA", "its key", [MASTER], now)

    async def load_or_create(self) -> ProviderIdentity:
        kept = self._kept
        return ProviderIdentity(kept.ca_pem, kept.ca_key_pem, list(kept.master_secrets), kept.rotated_at)

    async def save(self, identity: ProviderIdentity) -> None:
        self._kept = identity


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outlives the process."""

    network: Network
    cloud: CloudServer
    fleet: Fleet
    identities: Identities


class ProviderProcess:
    """`on_exit(process)` is called, outside, when it has died or ended. `failure` is why it ended by itself."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        surroundings: Surroundings,
        on_exit: Callable[[ProviderProcess], None],
    ) -> None:
        self.number, self.surroundings = number, surroundings
        self._settings, self._on_exit = settings, on_exit
        self.connector = Connector(surroundings.fleet)
        self.is_dead = self.has_exited = self.was_asked = False
        self.steps = 0
        self.on_step: Callable[[ProviderProcess], None] = lambda process: None
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.failure: BaseException | None = None
        self.provider: app.Provider | None = None
        self.started_at = asyncio.get_running_loop().time()
        self._dies_at: int | None = None
        self._task: asyncio.Task[int] | None = None

    def start(self) -> None:
        context = Context()
        context.run(PROCESS.set, self)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(app._run(self._settings), name=f"provider {self.number}", context=context)
        self._task.add_done_callback(self._ended, context=Context())

    def step(self) -> None:
        self.steps += 1
        self.on_step(self)
        if self._dies_at is not None and self.steps >= self._dies_at:
            self.kill()

    def kill_in(self, steps: int) -> None:
        self._dies_at = self.steps + steps

    def kill(self) -> None:
        """SIGKILL."""
        if self.is_dead or self.has_exited:
            return
        self.is_dead = True
        for task in self.tasks:
            task._log_destroy_pending = False
        _graveyard.append((self, list(self.tasks)))
        self._leave()

    def terminate(self) -> None:
        """SIGTERM; before it listens to signals it dies of it."""
        self.was_asked = True
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        if self.provider is None:
            self.kill()
        else:
            loop.signals[signal.SIGTERM]()

    def _ended(self, task: asyncio.Task[int]) -> None:
        if self.is_dead:
            return
        self.has_exited = True
        self.failure = None if task.cancelled() else task.exception()
        self._leave()

    def _leave(self) -> None:
        """The kernel closes its connections."""
        for channel in self.connector.channels:
            outside_soon(channel.drop)
        self.surroundings.network.hang_up(self)
        outside_soon(self._on_exit, self)

    @property
    def is_running(self) -> bool:
        return not (self.is_dead or self.has_exited)

    @property
    def bad_start(self) -> bool:
        return isinstance(self.failure, BadStartError)


def current() -> ProviderProcess:
    process = PROCESS.get()
    assert isinstance(process, ProviderProcess)
    return process


class _Provider(app.Provider):
    """Says which one it is."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        current().provider = self


class _Server:
    """A server whose port nobody dials."""

    def __init__(self, *_: Any) -> None:
        """Nothing to build."""

    async def start(self) -> None:
        """No port is opened."""

    async def stop(self) -> None:
        """No port is open."""

    def reload_certificate(self, *_: Any) -> None:
        """Nobody shakes hands."""


class _ServingCertificate:
    """A certificate that is there."""

    def __init__(
        self, client: Any, node: str, names: Any, directory: Any, on_certificate: Callable[..., None], signer: str
    ) -> None:
        self._on_certificate = on_certificate

    async def run(self) -> None:
        self._on_certificate(b"", b"")
        await asyncio.Event().wait()


def install() -> None:
    """Replace the outside of the process, once."""

    def create_backend(settings: Settings, identity: ProviderIdentity) -> tuple[Any, Any]:
        process = current()
        return CloudClient(process.surroundings.cloud), process.connector

    def find_image_stores(settings: Settings, cloud: CloudClient) -> ImageStores | None:
        return LimitedImageStores(cloud.build_stores(sweeps=True)) if settings.images.prepare else None

    def find_left_stores(settings: Settings, cloud: CloudClient) -> ImageStores | None:
        return LimitedImageStores(cloud.build_stores(sweeps=False)) if settings.images.prepare is False else None

    replaced: list[tuple[Any, str, Any]] = [
        (foundation, "create_backend", create_backend),
        (foundation, "find_image_stores", find_image_stores),
        (foundation, "find_left_stores", find_left_stores),
        (foundation, "build_identity_store", lambda settings, client: current().surroundings.identities),
        (app, "Provider", _Provider),
        (leader, "HealthServer", _Server),
        (leader, "RegistryClient", Registry),
        (kubelets, "KubeletServer", _Server),
        (node_service, "ServingCertificate", _ServingCertificate),
        (client_module, "_session", lambda limit: Transport(current().surroundings.network)),
        (client_module, "Credentials", NoCredentials),
        (metrics, "LOOP_TICK_S", 60.0),  # stalls of the real clock are not looked for
    ]
    for module, name, value in replaced:
        assert hasattr(module, name), name
        setattr(module, name, value)
