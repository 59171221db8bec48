"""The control plane and the processes that are measured on it. Everything is below one directory and one name."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.bench.api import Api
from tests.bench.machine import PROJECT
from tests.cluster import approver
from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.images.__main__ import write_image_archive
from tests.cluster.process import Process
from tests.cluster.state import StateDir

NAME = "bench"
SUBNET, ADDRESS = "10.210.0.0/16", "10.210.0.1"
PORTS = {"simulated": 10260, "local": 10250}
"""Of the kubelet API; healthz is on the next one."""
PROVIDER_USER = "system:serviceaccount:vk-provider:vk-provider"
PROVIDER_GROUPS = ("system:serviceaccounts", "system:serviceaccounts:vk-provider", "system:authenticated")
ACCESS = (
    "namespace.yaml",
    "serviceaccount.yaml",
    "clusterrole.yaml",
    "clusterrolebinding.yaml",
    "lease-role.yaml",
    "client-ca-role.yaml",
)
IMAGE = "docker.io/library/busybox:bench"
READY_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider process: one Node of the same name, on the cloud that it is called after."""

    process: Process
    node: str
    port: int

    @property
    def pid(self) -> int:
        self.process.require_alive()
        return self.process.pid() or 0

    @property
    def metrics_url(self) -> str:
        return f"https://{ADDRESS}:{self.port}/metrics"


class BenchCluster:
    """A real control plane at an address of the local cloud's bridge; providers are started when asked for."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_dir() / "bench"
        self.plane = ControlPlane(StateDir(self.root / "cluster"))
        self._providers: list[Process] = []

    def up(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._local_cloud("up")
        self.plane.up(ADDRESS)
        for name in ACCESS:
            self.plane.kubectl("apply", "-f", str(PROJECT / "manifests" / "base" / name))
        approver.up(self.plane, approver.Policy(("local", "simulated"), (SUBNET,), (PROVIDER_USER,)))

    def renew(self) -> None:
        """A control plane without objects; providers are stopped, and nothing of theirs stays."""
        self.down()
        self.plane = ControlPlane(StateDir(self.root / "cluster"))
        self.up()

    def down(self) -> None:
        """Everything away; works after a crash and when there is nothing."""
        for name in ("simulated", "local"):
            self._process(name).stop()
        self._local_cloud("down")
        self.plane.down()
        shutil.rmtree(self.root, ignore_errors=True)

    def _process(self, name: str) -> Process:
        return Process(f"provider-{name}", self.root, self.root)

    def _local_cloud(self, verb: str) -> None:
        command = [
            sys.executable,
            "-m",
            "vk_provider",
            "local-cloud",
            verb,
            "--name",
            NAME,
            "--subnet",
            SUBNET,
            "--state-dir",
            str(self.root / "cloud"),
        ]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"local cloud {verb}: {done.stderr.strip() or done.stdout.strip()}")

    @property
    def image_archive(self) -> Path:
        """An OCI archive with the image IMAGE: a shell and small programs."""
        path = self.root / "busybox.tar"
        if not path.exists():
            write_image_archive("sample-busybox", IMAGE, path)
        return path

    async def start_provider(self, cloud: str, api: Api, node_capacity: int = 6000, more: str = "") -> Provider:
        """Start a fresh provider on `cloud` (simulated or local) and wait until its Node is Ready. more: tables of its
        configuration."""
        process = self._process(cloud)
        process.stop()
        port = PORTS[cloud]
        config = self.root / f"{cloud}.toml"
        config.write_text(self._config(cloud, port, node_capacity) + more)
        command = [sys.executable, "-m", "vk_provider", "run", "--config", str(config)]
        process.start(command, {"PYTHONPATH": str(PROJECT), **self._bytecode})
        await wait_healthy(api, process, port + 1)
        await wait_node_ready(api, cloud, process)
        provider = Provider(process, cloud, port)
        await _wait_serving(api, provider)
        return provider

    @property
    def _bytecode(self) -> dict[str, str]:
        """As an installed package has it, from the second start on: pip compiles what it installs."""
        return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.root / "bytecode")}

    def stop_provider(self, provider: Provider) -> None:
        provider.process.stop()

    def _config(self, cloud: str, port: int, capacity: int) -> str:
        kubeconfig = self.plane.kubeconfig_for(PROVIDER_USER, PROVIDER_GROUPS)
        preload = json.dumps([str(self.image_archive)] if cloud == "local" else [])
        return f"""
[cluster]
kubeconfig = "{kubeconfig}"
[[nodes]]
name = "{cloud}"
address = "{ADDRESS}"
port = {port}
taint = false
capacity = {{ cpu = "10000", memory = "40Ti", pods = "{capacity}", ephemeral-storage = "200Ti" }}
[kubelet]
client_ca_file = "{self.plane.ca}"
certificate_dir = "{self.root / cloud / "pki"}"
healthz_port = {port + 1}
[identity]
directory = "{self.root / cloud / "identity"}"
[pods]
archive_dir = "{self.root / cloud / "logs"}"
[ledger]
file = "{self.root / cloud / "ledger"}"
[cloud]
backend = "{cloud}"
owner = "{NAME}-{cloud}"
[cloud.local]
name = "{NAME}"
subnet = "{SUBNET}"
state_dir = "{self.root / "cloud"}"
preload = {preload}
"""


async def wait_healthy(api: Api, process: Process, port: int) -> None:
    """Until this very process has started: the Node may be Ready from the one before."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        process.require_alive()
        try:
            await api.text(f"http://127.0.0.1:{port}/healthz")
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    raise ClusterError(f"{process.name} did not start within {READY_LIMIT_S:.0f} s", f"read {process.log}")


async def _wait_serving(api: Api, provider: Provider) -> None:
    """Until the kubelet API has its certificate, which the API server signs after the Node is there."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        provider.process.require_alive()
        try:
            await api.text(provider.metrics_url)
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise ClusterError(f"{provider.process.name} serves no metrics", f"read {provider.process.log}")


async def wait_node_ready(api: Api, node: str, process: Process) -> None:
    """Asked every 0.1 s, before anything is measured. Raises ClusterError."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        process.require_alive()
        nodes = await api.call("GET", f"/api/v1/nodes?fieldSelector=metadata.name%3D{node}")
        conditions = [c for item in nodes["items"] for c in item["status"].get("conditions") or []]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return
        await asyncio.sleep(0.1)
    raise ClusterError(f"node {node} did not become Ready within {READY_LIMIT_S:.0f} s", f"read {process.log}")
