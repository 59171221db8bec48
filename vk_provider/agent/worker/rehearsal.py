"""Runs a sandbox with a container once while the instance waits for its pod, and takes both away again.

What the first start of an instance costs more than the next one (programs and libraries read from the disk, file
systems, containerd's own first times) is paid before there is a pod. A pod sees nothing of it. One that comes meanwhile
waits until the network is free again, so an instance rehearses only when it has been connected and idle for a while, as
those of pools are; the instance of a pod that was waited for never does.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.worker.sandbox.cgroups import remove_pod_cgroup

log = logging.getLogger(__name__)

IDLE_S = 5.0
RETRY_S = 0.5
LABEL = "rehearsal"
"""Of a sandbox of no namespace, as no pod has one."""
_PARENT = "/kubepods/rehearsal"


class Rehearse(Protocol):
    """What an idle instance does meanwhile."""

    async def run(self, has_pod: asyncio.Event) -> None:
        """Returns once nothing of it is left; soon after `has_pod` is set."""


class Rehearsal:
    """directory: of the agent's state, where a mark outlives an agent that ends in the midst. is_connected: whether the
    provider has a session."""

    def __init__(self, runtime: ContainerRuntime, directory: Path, is_connected: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._mark = directory / "rehearsal"
        self._is_connected = is_connected

    async def run(self, has_pod: asyncio.Event) -> None:
        """See Rehearse."""
        if self._mark.exists():
            await self._clean()
        while not await _is_set(has_pod, IDLE_S):
            if self._is_connected():
                await self._rehearse(has_pod)
                return

    async def _rehearse(self, has_pod: asyncio.Event) -> None:
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        try:
            await self._start(has_pod)
        except RuntimeServiceError as error:
            log.info("rehearsal: %s", error)  # the pod's own start tells what is wrong
        await self._clean()
        log.info("rehearsed the start of a pod")

    async def _start(self, has_pod: asyncio.Event) -> None:
        sandbox = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name="rehearsal", namespace="", uid=str(uuid.uuid4())),
            hostname="rehearsal",
            log_directory=str(self._mark.parent / "rehearsal-logs"),
            labels={LABEL: ""},
            linux=pb.LinuxPodSandboxConfig(cgroup_parent=_PARENT),
        )
        sandbox_id = await self._runtime.run_pod_sandbox(sandbox)
        image = (await self._runtime.pod_sandbox_info(sandbox_id)).get("image") or ""
        if has_pod.is_set() or not image:
            return
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name="rehearsal"),
            image=pb.ImageSpec(image=image),
            labels={LABEL: ""},
            log_path="rehearsal.log",
            linux=pb.LinuxContainerConfig(),
        )
        container_id = await self._runtime.create_container(sandbox_id, config, sandbox)
        if not has_pod.is_set():
            await self._runtime.start_container(container_id)

    async def _clean(self) -> None:
        """Until nothing is left: the pod's address would be taken."""
        while True:
            try:
                for each in await self._runtime.list_pod_sandboxes():
                    if LABEL in each.labels and not each.metadata.namespace:
                        await self._runtime.stop_pod_sandbox(each.id)
                        await self._runtime.remove_pod_sandbox(each.id)
                break
            except RuntimeServiceError as error:
                log.warning("a rehearsal is not taken away yet: %s", error)
            await asyncio.sleep(RETRY_S)
        await asyncio.to_thread(self._forget)

    def _forget(self) -> None:
        remove_pod_cgroup(_PARENT)
        logs = self._mark.parent / "rehearsal-logs"
        if logs.is_dir():
            for path in logs.iterdir():
                path.unlink()
            logs.rmdir()
        self._mark.unlink(missing_ok=True)


async def _is_set(event: asyncio.Event, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
