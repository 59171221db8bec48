"""Slow rounds over a running pod: log rotation and local storage limits."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.container.logrotation import rotate_log
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.eviction import GRACE_PERIOD_S, find_exceeded_limit, has_local_storage_limit
from vk_provider.agent.worker.rules.observed import CONTAINER_NAME, Observation, State
from vk_provider.agent.worker.rules.spec import log_directory, spec_of
from vk_provider.podmodel.status import PodEnd

log = logging.getLogger(__name__)

PERIOD_S = 10.0


class PodMonitor:
    """One round every ten seconds: as often as a kubelet looks."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        volumes: PodVolumes,
        recorder: Recorder,
        memory: PodMemory,
        observed: Callable[[], Observation],
        on_end: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._volumes = volumes
        self._recorder = recorder
        self._memory = memory
        self._observed = observed
        self._on_end = on_end

    async def run(self) -> None:
        while not self._memory.stopped:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.rotate_logs()
                await self.check_limits()
            except (RuntimeServiceError, OSError) as error:
                log.warning("pod monitor: %s", error)

    async def rotate_logs(self) -> None:
        for container in self._observed().containers:
            if container.state is State.RUNNING and container.log_path:
                await rotate_log(self._runtime, container.id, container.log_path)

    async def check_limits(self) -> None:
        """Evict the pod when it uses more local storage than it may. Containers that have ended do not count, and
        without a running one nothing is known of the pod, as in a kubelet (removeTerminatedContainers in
        pkg/kubelet/stats/cri_stats_provider.go)."""
        memory, observed = self._memory, self._observed()
        sandbox = observed.active_sandbox
        if sandbox is None or memory.must_stop or not has_local_storage_limit(memory.pod):
            return
        running = {container.id for container in observed.containers if container.state is State.RUNNING}
        if not running:
            return
        names = {v["name"] for v in spec_of(memory.pod).get("volumes") or [] if v.get("emptyDir") is not None}
        usage = await self._volumes.usage()
        volume_bytes = {name: used.used_bytes for name, used in usage.items() if name in names}
        message = find_exceeded_limit(memory.pod, volume_bytes, await self._container_bytes(sandbox.id, running))
        if message:
            self._recorder.warn(eventreasons.EVICTED, message)
            memory.end = PodEnd("Evicted", message)
            memory.grace_override_s = GRACE_PERIOD_S
            self._on_end()

    async def _container_bytes(self, sandbox_id: str, running: Collection[str]) -> dict[str, int]:
        stats = await self._runtime.list_container_stats(sandbox_id)
        layers = {
            entry.attributes.labels.get(CONTAINER_NAME, ""): entry.writable_layer.used_bytes.value
            for entry in stats
            if entry.attributes.id in running
        }
        root = Path(log_directory(self._memory.pod))
        logs = await asyncio.to_thread(lambda: {name: _directory_bytes(root / name) for name in layers})
        return {name: size + logs.get(name, 0) for name, size in layers.items()}


def _directory_bytes(directory: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return 0
