"""Instances that pull images, each with a containerd of its own and the agent's parts for blobs; the provider's side is
the real coordinator with a real registry client. Messages pass through their encodings.

Everything is on the machine's loopback; an instance is an address of 127/8.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from tests.password_registry import Image, PasswordRegistry
from vk_provider.agent import network
from vk_provider.agent.blobs.book import BlobBook
from vk_provider.agent.blobs.content import ContentStore
from vk_provider.agent.blobs.mirror import BlobMirror
from vk_provider.agent.blobs.serving import BlobServer
from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.images import ImageStore
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.server import AgentServer
from vk_provider.agentclient.authority import Authority, create_authority, read_csr
from vk_provider.agentclient.session import Slot
from vk_provider.aiokit.inotify import Inotify
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.peering.coordinator import PeerCoordinator, PeerLimits
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.contents import ImageContents
from vk_provider.registry.client import RegistryClient
from vk_provider.wire.blobs import BlobsMessage
from vk_provider.wire.bootdata import AGENT_PORT
from vk_provider.wire.inbound import decode_up

NOW = datetime.datetime.now(datetime.UTC)

_CONFIG = """\
version = {version}
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs", "io.containerd.nri.v1.nri"]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."{images}".registry]
  config_path = "{dir}/certs.d"
[plugins."{cri}".cni]
  conf_dir = "{dir}/cni"
"""
_PLUGINS = {
    2: {"images": "io.containerd.grpc.v1.cri", "cri": "io.containerd.grpc.v1.cri"},
    3: {"images": "io.containerd.cri.v1.images", "cri": "io.containerd.cri.v1.runtime"},
}


class Secrets:
    """Pull secrets by name."""

    def __init__(self) -> None:
        self.items: dict[str, Json] = {}

    async def read_pull_secrets(self, pod: Json) -> Mapping[str, Json | None]:
        return {each["name"]: self.items.get(each["name"]) for each in pod["spec"].get("imagePullSecrets") or ()}


class Session:
    """In place of agentclient.session.AgentSession: what is put arrives at the agent in a later turn of the loop."""

    def __init__(self, book: BlobBook) -> None:
        self._book = book

    def put(self, slot: Slot, message: Any) -> None:
        assert slot is Slot.SOURCES
        asyncio.get_running_loop().call_soon(self._book.receive, orjson.loads(orjson.dumps(message)))


@dataclass(eq=False)
class Puller:
    """One instance; `start` first. program: its containerd."""

    name: str
    address: str
    authority: Authority
    coordinator: PeerCoordinator
    pod: Json
    program: str = "containerd"
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="vkpeer-")))

    async def start(self, registries: Mapping[str, Mapping[str, Any]]) -> None:
        self.record = PodRecord(self.pod["metadata"]["uid"], "n", self.pod)
        state, zone = InstanceState.RUNNING, "zone-a"
        owned = OwnedInstance(Instance(self.name, state, "t", zone, "on-demand", "amd64", self.address, "", 0.0))
        self.record.assignment.take(owned)
        self.book = BlobBook(ContentStore(self.directory / "root"), self._send, lambda: self.record.uid)
        session: Any = Session(self.book)
        owned.link.session = session
        self.identity = AgentIdentity(
            self.directory / "state-dir", self.name, self.authority.certificate_pem, "5e" * 32
        )
        self.identity.load_or_create()
        csr = read_csr(str(self.identity.answer("00", [1])["csr"]), self.name)
        self.identity.accept(self.authority.sign_instance(csr, self.name, NOW).pem)
        self.server = AgentServer(self.identity)
        self.blob_server = BlobServer(self.book)
        self.blob_server.add_routes(self.server.app)
        await self.server.start(self.address, AGENT_PORT)
        self.mirror = BlobMirror(self.book, self.identity.client_context, self.directory / "blobs")
        mirror_url = await self.mirror.start()
        network.write_registry_hosts(registries, self.directory / "certs.d", mirror_url)
        await asyncio.to_thread(self._launch)
        self.runtime = ContainerRuntime(str(self.directory / "containerd.sock"))
        await self._wait_ready()
        self.images = ImageStore(self.runtime, self.book)
        self._following = asyncio.create_task(self.book.run(Inotify()))
        self.coordinator.greet(self.record)

    def _send(self, message: BlobsMessage) -> None:
        decoded: Any = decode_up(orjson.dumps(message))
        asyncio.get_running_loop().call_soon(self.coordinator.receive, self.record, decoded)

    def _launch(self) -> None:
        text = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        version = 3 if " v2." in text or " 2." in text else 2
        (self.directory / "config.toml").write_text(
            _CONFIG.format(version=version, dir=self.directory, **_PLUGINS[version])
        )
        command = [self.program, "--config", str(self.directory / "config.toml"), "--log-level", "debug"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    async def _wait_ready(self) -> None:
        """CRI answers; without a CNI configuration its network is never ready, which pulls do not need."""
        deadline = time.monotonic() + 30
        while True:
            try:
                await ImageStore(self.runtime).status("registry.test/none:1")
                return
            except Exception:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                await asyncio.sleep(0.05)

    async def pull(self, reference: str, credential: RegistryCredential | None = None) -> None:
        await self.images.pull(reference, [credential] if credential is not None else [])

    async def vanish(self) -> None:
        """Its agent answers nobody any more."""
        await self.server.stop()

    def corrupt(self, digest: str) -> None:
        """Other content of the same size under the digest."""
        path = self.book.content.directory / digest.removeprefix("sha256:")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.chmod(0o600)
        path.write_bytes(content)

    async def holds(self, image: Image) -> None:
        """Until its book knows that it has the image."""
        for digest in image.parts:
            await self.book.wait_held(digest, 10.0)

    def has(self, image: Image) -> bool:
        return all(digest in self.book.content.scan() for digest in image.parts)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    async def stop(self) -> None:
        self.coordinator.leave(self.record)
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self.server.stop()
        await self.mirror.stop()
        await self.runtime.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        shutil.rmtree(self.directory, ignore_errors=True)


class Zone:
    """The provider's side, a registry, and instances as they are needed."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.registry = PasswordRegistry()
        self.secrets = Secrets()
        self.metrics = CollectorRegistry()
        self.pullers: list[Puller] = []
        self._authority = Authority(*create_authority(NOW), 3600)

    async def start(self) -> None:
        await self.registry.start()
        self.registries: dict[str, dict[str, Any]] = {self.registry.host: {"plain_http": True}}
        self.client = RegistryClient(self.registries)
        self.pull_authority = PullAuthority(self.client)
        contents = ImageContents(self.pull_authority)
        self.coordinator = PeerCoordinator(PeerLimits(2), contents, self.secrets, PeerMetrics(self.metrics))
        self._running = asyncio.create_task(self.coordinator.run())

    async def add(self, reference: str, secret: str = "") -> Puller:
        number = len(self.pullers) + 1
        spec: Json = {"containers": [{"name": "c", "image": reference}]}
        if secret:
            spec["imagePullSecrets"] = [{"name": secret}]
        pod = {"metadata": {"name": f"p{number}", "namespace": "default", "uid": f"uid-{number}"}, "spec": spec}
        puller = Puller(f"i-{number}", f"127.77.0.{number}", self._authority, self.coordinator, pod, self.program)
        self.pullers.append(puller)
        await puller.start(self.registries)
        return puller

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, labels) or 0.0

    async def stop(self) -> None:
        for puller in self.pullers:
            await puller.stop()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.coordinator.close()
        await self.pull_authority.close()
        await self.client.close()
        await self.registry.stop()
