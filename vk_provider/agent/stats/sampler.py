"""Takes samples of the pod and pushes them: `run_stats` is a root task of the agent."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, cast

from aiohttp import web

from vk_provider.agent.stats import machine
from vk_provider.agent.stats.cgroup import UNLIMITED, CgroupFigures, CgroupReader
from vk_provider.agent.stats.document import (
    ContainerSample,
    PodSample,
    VolumeSample,
    build_cadvisor,
    build_cpu,
    build_memory,
    build_network,
    build_pod,
)
from vk_provider.agent.view import PodView
from vk_provider.crilog.source import trim_container_scheme
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_milli_time
from vk_provider.wire import routes
from vk_provider.wire.session import StatsMessage

if TYPE_CHECKING:
    from vk_provider.agent.runtime import ContainerRuntime

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
FIRST_S = 2.0
"""How often to look for the first running container; a metrics scrape wants a sample soon after the start."""
VOLUMES_S = 60.0
"""Volumes are walked as rarely as a kubelet does."""
STORAGE_ROOTS = ("/var/lib/kubelet", "/var/lib/containerd", "/")
"""containerd's may be in memory, but for what is large."""

_STATUS_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class StatsSink(Protocol):
    """The agent's outbox, as far as this loop uses it."""

    def send_stats(self, message: StatsMessage) -> None: ...


class Sampler:
    """Takes samples; remembers the last counters for rates. `latest` is the newest sample."""

    def __init__(
        self,
        view: PodView,
        runtime: ContainerRuntime,
        probes: Callable[[], list[Json]] | None = None,
        cgroups: CgroupReader | None = None,
    ) -> None:
        self._view, self._runtime, self._probes = view, runtime, probes
        self._cgroups = cgroups or CgroupReader()
        self._counters: dict[str, tuple[float, int]] = {}
        self._volumes: list[VolumeSample] = []
        self._volumes_until = 0.0
        self.latest: StatsMessage | None = None

    async def sample(self) -> StatsMessage | None:
        """One sample; None while no container of a pod runs."""
        pod, sandbox_id = self._view.pod, self._view.sandbox_id
        running = _running_containers(self._view.status)
        if pod is None or not sandbox_id or not running:
            return None
        layers = await self._writable_layers(sandbox_id)
        await self._refresh_volumes(pod)
        message = self._build({**pod, "status": self._view.status}, sandbox_id, running, layers)
        self.latest = message
        return message

    def _build(
        self, pod: Json, sandbox_id: str, running: list[Json], layers: dict[str, tuple[int, int]]
    ) -> StatsMessage:
        now, at_s = time.time(), time.monotonic()
        moment = format_milli_time(now)
        containers = [item for status in running if (item := self._container(at_s, status, layers)) is not None]
        sandbox = self._sandbox(at_s, sandbox_id)
        pids = sandbox.figures.pids if sandbox is not None else ()
        interfaces = machine.read_interfaces(pids[0]) if pids else []
        file_system = machine.read_file_system(_storage_root(), moment)
        pod_figures = self._pod_figures(pod["metadata"]["uid"], containers)
        parts = [pod_figures] if pod_figures is not None else [item.figures for item in containers]
        cpu_ns = sum(part.cpu.total_ns for part in parts)
        rate = self._rate("pod", at_s, cpu_ns)
        sample = PodSample(containers, sandbox, pod_figures, rate, interfaces, self._volumes, file_system)
        message: Json = {
            "type": "stats",
            "podUID": pod["metadata"]["uid"],
            "timestamp": moment,
            "pod": build_pod(moment, pod, sample),
            "node": self._build_node(at_s, moment, file_system),
            "cadvisor": build_cadvisor(now, containers, sandbox, interfaces),
        }
        if self._probes is not None:
            message["probes"] = self._probes()
        self._forget_except({sandbox_id, *(item.container_id for item in containers)})
        return cast(StatsMessage, message)

    def _forget_except(self, container_ids: set[str]) -> None:
        """Drop the state of containers that are gone."""
        self._cgroups.forget_except(container_ids)
        for key in self._counters.keys() - container_ids - {"pod", "node"}:
            del self._counters[key]

    def _container(self, at_s: float, status: Json, layers: dict[str, tuple[int, int]]) -> ContainerSample | None:
        container_id = trim_container_scheme(str(status.get("containerID") or ""))
        path = self._cgroups.find(container_id) if container_id else None
        if path is None:
            return None
        figures = self._cgroups.read(path)
        if not self._cgroups.exists(path):
            return None  # It has just ended: zeros would be taken for a faulty sample of the whole pod.
        started = str(status["state"]["running"].get("startedAt") or "")
        used, inodes = layers.get(container_id, (None, None))
        return ContainerSample(
            name=status["name"],
            container_id=container_id,
            image=str(status.get("imageID") or status.get("image") or ""),
            started_at=started,
            figures=figures,
            nano_cores=self._rate(container_id, at_s, figures.cpu.total_ns),
            cgroup_path=path,
            rootfs_used=used,
            rootfs_inodes=inodes,
            log_bytes=_file_size(self._view.log_path(container_id)),
            started_s=_parse(started),
        )

    def _sandbox(self, at_s: float, sandbox_id: str) -> ContainerSample | None:
        path = self._cgroups.find(sandbox_id)
        if path is None:
            return None
        figures = self._cgroups.read(path)
        if not self._cgroups.exists(path):
            return None
        rate = self._rate(sandbox_id, at_s, figures.cpu.total_ns)
        return ContainerSample("", sandbox_id, "", "", figures, rate, cgroup_path=path)

    def _pod_figures(self, uid: str, containers: list[ContainerSample]) -> CgroupFigures | None:
        """Figures of the pod's own cgroup, in which its containers' cgroups lie."""
        for item in containers:
            parent = os.path.dirname(item.cgroup_path)
            name = os.path.basename(parent)
            if uid in name or uid.replace("-", "_") in name:
                pids = tuple(pid for part in containers for pid in part.figures.pids)
                return replace(self._cgroups.read(parent), pids=pids)
        return None

    def instance_memory_bytes(self) -> int:
        """What the instance's operating system has; 0 where a cgroup gives it a part of a machine's."""
        total, limit = machine.read_meminfo()["MemTotal"], self._cgroups.read(".").memory.limit
        return total if limit is None or limit >= min(UNLIMITED, total) else 0

    def _build_node(self, at_s: float, moment: str, file_system: Json) -> Json:
        """The whole instance: its root cgroup where that is metered, else the machine."""
        figures = self._cgroups.read(".")
        meminfo = machine.read_meminfo()
        cpu_ns = figures.cpu.total_ns or machine.read_machine_cpu_ns()
        memory, total = figures.memory, meminfo["MemTotal"]
        if not memory.usage:
            free = meminfo["MemFree"]
            memory = replace(memory, usage=total - free, inactive_file=meminfo.get("MemAvailable", 0) - free)
        if memory.limit is None or memory.limit > min(UNLIMITED, total):
            memory = replace(memory, limit=total)
        return {
            "cpu": build_cpu(moment, cpu_ns, self._rate("node", at_s, cpu_ns)),
            "memory": build_memory(moment, replace(figures, memory=memory)),
            "network": build_network(moment, machine.read_interfaces(os.getpid())),
            "fs": file_system,
            "rlimit": {"time": moment, "maxpid": machine.read_pid_max(), "curproc": machine.count_processes()},
        }

    def _rate(self, key: str, at_s: float, value: int) -> int:
        """Nanocores since the sample before. at_s: on the monotonic clock, the other one may be set."""
        before = self._counters.get(key)
        self._counters[key] = (at_s, value)
        if before is None or at_s <= before[0] or value < before[1]:
            return 0
        return int((value - before[1]) / (at_s - before[0]))

    async def _writable_layers(self, sandbox_id: str) -> dict[str, tuple[int, int]]:
        """Container ID -> (bytes, inodes) of the writable layer."""
        try:
            found = await self._runtime.list_container_stats(sandbox_id)
        except AgentError as error:
            log.info("no writable layer sizes: %s", error)
            return {}
        return {
            item.attributes.id: (item.writable_layer.used_bytes.value, item.writable_layer.inodes_used.value)
            for item in found
        }

    async def _refresh_volumes(self, pod: Json) -> None:
        now = time.monotonic()
        if now >= self._volumes_until:
            self._volumes_until = now + VOLUMES_S
            # What a hostPath shows is the instance's, and may be all of it: not walked, not the pod's storage.
            foreign = {volume["name"] for volume in pod["spec"].get("volumes") or () if volume.get("hostPath")}
            paths = {name: path for name, path in self._view.volume_paths().items() if name not in foreign}
            self._volumes = await asyncio.to_thread(_measure_volumes, paths) if paths else []


def _measure_volumes(paths: dict[str, str]) -> list[VolumeSample]:
    memory_devices = {
        line.split()[2] for line in _read_lines("/proc/self/mountinfo") if " - tmpfs " in line or " - ramfs " in line
    }
    samples = []
    for name, path in sorted(paths.items()):
        try:
            device = os.stat(path).st_dev
        except OSError:
            continue
        usage = machine.measure_directory(path)
        in_memory = f"{os.major(device)}:{os.minor(device)}" in memory_devices
        file_system = machine.read_file_system(path, "")
        samples.append(VolumeSample(name, usage.used_bytes, usage.inodes, file_system, in_memory))
    return samples


def _read_lines(path: str) -> list[str]:
    with open(path, errors="replace") as file:  # a mount point's name may be any bytes
        return file.read().splitlines()


def _running_containers(status: Json) -> list[Json]:
    return [
        item
        for key in _STATUS_LISTS
        for item in status.get(key) or ()
        if (item.get("state") or {}).get("running") is not None
    ]


def _storage_root() -> str:
    return next(path for path in STORAGE_ROOTS if os.path.isdir(path))


def _file_size(path: str | None) -> int:
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0


def _parse(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


async def run_stats(sampler: Sampler, sink: StatsSink, interval_s: float = INTERVAL_S) -> None:
    """Sample every `interval_s`, more often until the first container runs. Returns only on cancel."""
    while True:
        try:
            message = await sampler.sample()
        # A process or cgroup that vanished while it was read, or an invalid figure: wait for the next sample.
        except (OSError, ValueError) as error:
            log.info("no stats sample: %s", error)
            message = None
        if message is not None:
            sink.send_stats(message)
        await asyncio.sleep(interval_s if message is not None else min(FIRST_S, interval_s))


def add_stats_routes(app: web.Application, sampler: Sampler) -> None:
    """GET /v1/stats: the newest sample, 404 while there is none."""

    async def handle(_: web.Request) -> web.Response:
        if sampler.latest is None:
            return web.Response(status=404, text="no sample yet")
        return web.json_response(sampler.latest)

    app.router.add_get(routes.STATS, handle)
