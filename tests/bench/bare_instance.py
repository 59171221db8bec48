"""What one pod costs without us: namespaces, containerd, a sandbox and a container through CRI, and nothing else.

The same kernel work as an instance of the local cloud (control groups, six namespaces, an interface on the same
bridge, containerd with the same images by hard links), by a shell script and plain CRI calls. Nobody sizes, tags,
authenticates, watches or reports; the root file system is the host's.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.api_grpc import RuntimeServiceStub
from vk_provider.agent.cri.connection import RuntimeConnection, RuntimeServiceError
from vk_provider.agent.network import build_cni_conflist, write_cni_conflist
from vk_provider.cloud.local.cgroup import InstanceCgroup, find_hierarchies
from vk_provider.cloud.local.containerd import build_config, find_containerd
from vk_provider.cloud.local.golden import GoldenRoot, ensure_golden

MEMORY_BYTES = 1 << 30
READY_LIMIT_S = 30.0
_INIT = """
set -e
nsenter --net={bridge_namespace} ip -batch - <<END
link add {port} type veth peer name eth0 netns 1
link set {port} master {bridge} up
END
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
{cgroup_mounts}
mount -t tmpfs tmpfs /run
ip -batch - <<END
link set lo up
addr add {primary_ip}/{prefix} dev eth0
link set eth0 up
route add default via {gateway} dev eth0
END
echo 1 > /proc/sys/net/ipv4/ip_forward
containerd --config {directory}/config.toml > {directory}/containerd.log 2>&1 &
wait
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bare instance lives: a bridge (in a named network namespace) and two free addresses of its subnet."""

    directory: Path
    bridge_namespace: str
    bridge: str
    subnet: str
    gateway: str
    primary_ip: str
    pod_ip: str


@dataclass(slots=True)
class Timeline:
    """Milliseconds since the start, by step."""

    started: float = field(default_factory=time.perf_counter)
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        self.marks[name] = (time.perf_counter() - self.started) * 1000


def link_images(golden: GoldenRoot, target: Path) -> None:
    """The cheapest root with all images: hard links, which instances that share nothing cannot have."""
    subprocess.run(["cp", "-al", golden.path / "tree", target], check=True)
    shutil.copytree(golden.path / "db", target, dirs_exist_ok=True)


class BareInstance:
    """One instance. `run` brings a container to running and returns when each step was done; `stop` removes all."""

    def __init__(self, place: Place, golden: GoldenRoot, image: str, command: tuple[str, ...]) -> None:
        self._place, self._golden = place, golden
        self._image, self._command = image, command
        self._group = InstanceCgroup(tuple(find_hierarchies()), f"vk-bare/{uuid.uuid4().hex[:8]}")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = str(place.directory / "run" / "containerd.sock")
        self.sandbox_id = ""
        self.container_id = ""

    async def run(self) -> Timeline:
        timeline = Timeline()
        self._group.create(MEMORY_BYTES)
        link_images(self._golden, self._place.directory / "root")
        self._write_configuration()
        timeline.mark("images linked")
        self._start()
        connection = RuntimeConnection(self.address)
        try:
            runtime = RuntimeServiceStub(connection.channel)
            await self._wait_ready(connection, runtime)
            timeline.mark("CRI ready")
            await self._run_pod(connection, runtime, timeline)
        finally:
            connection.close()
        return timeline

    def _write_configuration(self) -> None:
        place = self._place
        text = build_config(
            find_containerd().version,
            self._golden.sandbox_image,
            "/usr/lib/cni",
        )
        for usual, own in (
            ("/var/lib/containerd", "root"),
            ("/run/containerd", "run"),
            ("/etc/cni/net.d", "cni"),
            ("/etc/containerd", "etc"),
        ):
            text = text.replace(usual, str(place.directory / own))
        (place.directory / "config.toml").write_text(text)
        (place.directory / "cni").mkdir()
        conflist = build_cni_conflist(place.primary_ip, place.pod_ip, place.subnet, place.directory / "ipam")
        write_cni_conflist(conflist, place.directory / "cni")

    def _start(self) -> None:
        place = self._place
        mounts = []
        for hierarchy in self._group.hierarchies:
            if hierarchy.unified:
                mounts.append("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
                continue
            target = f"/sys/fs/cgroup/{hierarchy.options.removeprefix('none,name=')}"
            mounts.append(f"mkdir -p {target}; mount -t cgroup -o {hierarchy.options} cgroup {target}")
        if not self._group.hierarchies[0].unified:
            mounts.insert(0, "mount -t tmpfs tmpfs /sys/fs/cgroup")
        script = _INIT.format(
            bridge_namespace=place.bridge_namespace,
            bridge=place.bridge,
            port=f"vbare{uuid.uuid4().hex[:6]}",
            cgroup_mounts="\n".join(mounts),
            primary_ip=place.primary_ip,
            prefix=place.subnet.partition("/")[2],
            gateway=place.gateway,
            directory=place.directory,
        )
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        with (place.directory / "console.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "--fork", "--kill-child", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._group.join,
            )

    async def _wait_ready(self, connection: RuntimeConnection, runtime: RuntimeServiceStub) -> None:
        deadline = time.monotonic() + READY_LIMIT_S
        while True:
            try:
                answer = await connection.call(runtime.Status, pb.StatusRequest(), 2.0)
                needed = ("RuntimeReady", "NetworkReady")
                if all(c.status for c in answer.status.conditions if c.type in needed):
                    return
            except RuntimeServiceError:
                pass
            if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                logs = [self._place.directory / name for name in ("console.log", "containerd.log")]
                raise RuntimeError("\n".join(path.read_text()[-1500:] for path in logs if path.exists()))
            await asyncio.sleep(0.002)

    async def _run_pod(self, connection: RuntimeConnection, runtime: RuntimeServiceStub, timeline: Timeline) -> None:
        uid = str(uuid.uuid4())
        sandbox = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name="bare", namespace="bench", uid=uid),
            hostname="bare",
            log_directory=str(self._place.directory / "log"),
            linux=pb.LinuxPodSandboxConfig(cgroup_parent=f"/kubepods/pod{uid}"),
        )
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name="c"),
            image=pb.ImageSpec(image=self._image),
            command=list(self._command),
            log_path="c.log",
            linux=pb.LinuxContainerConfig(),
        )
        call = connection.call
        made = await call(runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=sandbox))
        self.sandbox_id = made.pod_sandbox_id
        timeline.mark("sandbox")
        request = pb.CreateContainerRequest(pod_sandbox_id=self.sandbox_id, config=config, sandbox_config=sandbox)
        self.container_id = (await call(runtime.CreateContainer, request)).container_id
        timeline.mark("container created")
        await call(runtime.StartContainer, pb.StartContainerRequest(container_id=self.container_id))
        timeline.mark("running")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._group.remove()
        InstanceCgroup(self._group.hierarchies, "vk-bare").remove()
        shutil.rmtree(self._place.directory, ignore_errors=True)


def find_golden(directory: Path, images: tuple[str, ...]) -> GoldenRoot:
    """The containerd root with `images` (OCI archives) that instances start from; made once."""
    return ensure_golden(find_containerd(), directory, images)


@asynccontextmanager
async def running(
    place: Place, golden: GoldenRoot, image: str, command: tuple[str, ...]
) -> AsyncIterator[tuple[BareInstance, Timeline]]:
    """A bare instance for as long as the block runs."""
    shutil.rmtree(place.directory, ignore_errors=True)
    place.directory.mkdir(parents=True)
    instance = BareInstance(place, golden, image, command)
    try:
        yield instance, await instance.run()
    finally:
        await asyncio.to_thread(instance.stop)
