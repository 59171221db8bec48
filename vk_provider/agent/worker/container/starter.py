"""Starts one container: image, configuration, create, start, postStart hook.

Source of the order and of the texts: startContainer in pkg/kubelet/kuberuntime/kuberuntime_container.go (v1.37).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vk_provider import eventreasons
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.volumes.container_mounts import Mount
from vk_provider.agent.volumes.errors import VolumeError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.container.config import ContainerInputs, build_container_config
from vk_provider.agent.worker.container.hooks import HookError, HookRunner
from vk_provider.agent.worker.container.pulling import ImagePuller, PresentImage, PullSource
from vk_provider.agent.worker.errors import StartError
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.rules.spec import ContainerRef, log_directory, name_of, namespace_of, spec_of
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.environment import build_environment
from vk_provider.podmodel.errors import ContainerConfigError
from vk_provider.podmodel.podresources import inherit_limits
from vk_provider.podmodel.security import resolve_container_security, verify_run_as_non_root

log = logging.getLogger(__name__)

CPU_DIR = Path("/sys/devices/system/cpu")
LEGACY_LOG_DIR = Path("/var/log/containers")


@dataclass(frozen=True, slots=True)
class StartPlace:
    """Where containers are started in this pass."""

    sandbox_id: str
    sandbox_config: pb.PodSandboxConfig
    context: PodContext
    observed: Observation


class ContainerStarter:
    """Starts containers one after the other; every failure is a StartError with the kubelet's reason and event."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        puller: ImagePuller,
        volumes: PodVolumes,
        hooks: HookRunner,
        own: OwnPod,
        *,
        kill: Callable[[ContainerRef, str, str], Awaitable[None]],
        on_change: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._puller = puller
        self._volumes = volumes
        self._hooks = hooks
        self._memory, self._recorder, self._stop = own.memory, own.recorder, own.stop
        self._kill = kill
        self._on_change = on_change

    async def start(self, ref: ContainerRef, place: StartPlace) -> str:
        """Return the ID of the started container; raises StartError, InterruptedByStop."""
        source = PullSource(self._memory.pod, self._memory.references, place.sandbox_config)
        try:
            image = await self._stop.interrupts(self._puller.ensure(ref, source))
        except StartError as error:
            # The pull's own event came with it; this one names what the container waits for.
            self._recorder.warn(eventreasons.FAILED, f"Error: {error.reason}", ref.field_path)
            raise
        finally:
            self._puller.forget_prefetch(ref.name)
        config = await self._configure(ref, place, image, source)
        # Before anything else is awaited: a resize may come at any time, and is then to be carried out.
        self._memory.resize.actuated[ref.name] = inherit_limits(self._memory.pod, ref.spec)
        container_id = await self._create(ref, place, config)
        post_start = (ref.spec.get("lifecycle") or {}).get("postStart")
        if post_start:
            self._memory.starting.add(container_id)
        try:
            await self._start(ref, container_id)
            await asyncio.to_thread(self._link_log, config, container_id)
            if post_start:
                await self._run_post_start(ref, post_start, container_id, place)
        finally:
            self._memory.starting.discard(container_id)
            self._on_change()
        return container_id

    async def _configure(
        self, ref: ContainerRef, place: StartPlace, image: PresentImage, source: PullSource
    ) -> pb.ContainerConfig:
        try:
            inputs = await self._gather_inputs(ref, place, image, source)
            return build_container_config(self._memory.pod, ref.spec, inputs)
        except ContainerConfigError as error:
            raise self._failed(ref, error.reason, str(error)) from error
        except (VolumeError, OSError) as error:
            raise self._failed(ref, "CreateContainerConfigError", str(error)) from error

    async def _gather_inputs(
        self, ref: ContainerRef, place: StartPlace, image: PresentImage, source: PullSource
    ) -> ContainerInputs:
        memory, container = self._memory, ref.spec
        pod = memory.pod
        security = resolve_container_security(pod, container)
        if security.masked_paths:
            throttles = await asyncio.to_thread(find_thermal_throttles)
            security = replace(security, masked_paths=(*security.masked_paths, *throttles))
        refusal = verify_run_as_non_root(security, image.uid, image.username, pod, container)
        if refusal:
            raise ContainerConfigError(refusal)
        env_files = await self._volumes.env_files(container)
        environment = build_environment(pod, container, memory.references, memory.services, place.context, env_files)
        mounts = await self._volumes.mounts(pod, container, dict(environment))
        return ContainerInputs(
            image_ref=image.ref,
            restart_count=await asyncio.to_thread(self._restart_count, ref, place.observed),
            security=security,
            environment=environment,
            mounts=tuple([await self._resolve_image(ref, mount, source) for mount in mounts]),
            image_uid=image.uid,
            image_username=image.username,
            target_id=_target_id(ref, place.observed),
            memory_capacity_bytes=memory.memory_capacity_bytes,
        )

    async def _resolve_image(self, ref: ContainerRef, mount: Mount, source: PullSource) -> Mount:
        """An image volume's image is pulled like a container's, and mounted by its reference."""
        if not mount.image:
            return mount
        volumes = {volume["name"]: volume for volume in spec_of(self._memory.pod).get("volumes") or []}
        policy = volumes[mount.name]["image"].get("pullPolicy")
        stand_in = {**ref.spec, "image": mount.image, "imagePullPolicy": policy}
        try:
            image = await self._stop.interrupts(self._puller.ensure_image(ContainerRef(ref.kind, stand_in), source))
        except StartError as error:
            self._recorder.warn(eventreasons.FAILED, f"Error: {error.reason}", ref.field_path)
            raise
        return replace(mount, image=image.ref)

    def _restart_count(self, ref: ContainerRef, observed: Observation) -> int:
        newest = observed.newest(ref.name)
        if newest is not None:
            return newest.restart_count + 1
        directory = Path(log_directory(self._memory.pod)) / ref.name
        try:
            numbers = [int(entry.name.partition(".")[0]) for entry in directory.iterdir() if entry.name[0].isdigit()]
        except (FileNotFoundError, ValueError):
            return 0
        return max(numbers, default=-1) + 1

    async def _create(self, ref: ContainerRef, place: StartPlace, config: pb.ContainerConfig) -> str:
        directory = Path(log_directory(self._memory.pod)) / ref.name
        await asyncio.to_thread(os.makedirs, directory, 0o755, True)
        try:
            container_id = await self._runtime.create_container(place.sandbox_id, config, place.sandbox_config)
        except RuntimeServiceError as error:
            raise self._failed(ref, "CreateContainerError", str(error)) from error
        self._recorder.note(eventreasons.CREATED, "Container created", ref.field_path)
        return container_id

    async def _start(self, ref: ContainerRef, container_id: str) -> None:
        try:
            await self._runtime.start_container(container_id)
        except RuntimeServiceError as error:
            raise self._failed(ref, "RunContainerError", str(error)) from error
        self._recorder.note(eventreasons.STARTED, "Container started", ref.field_path)

    async def _run_post_start(self, ref: ContainerRef, handler: Json, container_id: str, place: StartPlace) -> None:
        pod_ip = place.context.pod_ips[0] if place.context.pod_ips else ""
        try:
            await self._stop.interrupts(self._hooks.run(self._memory.pod, ref.spec, handler, container_id, pod_ip))
        except HookError as error:
            # The hook's message may hold secrets: it goes into the status only, as the kubelet does it.
            self._recorder.warn(eventreasons.FAILED_POST_START_HOOK, "PostStartHook failed", ref.field_path)
            try:
                await self._kill(ref, container_id, "FailedPostStartHook")
            except RuntimeServiceError as failed:  # why it does not start counts more than that it is not stopped yet
                log.warning("container %s not stopped after its postStart hook: %s", ref.name, failed)
            raise StartError("PostStartHookError", str(error)) from error

    def _link_log(self, config: pb.ContainerConfig, container_id: str) -> None:
        """The legacy path of log collectors. Best effort."""
        pod = self._memory.pod
        link = LEGACY_LOG_DIR / f"{name_of(pod)}_{namespace_of(pod)}_{config.metadata.name}-{container_id}.log"
        with contextlib.suppress(OSError):
            LEGACY_LOG_DIR.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"{log_directory(pod)}/{config.log_path}")

    def _failed(self, ref: ContainerRef, reason: str, message: str) -> StartError:
        self._recorder.warn(eventreasons.FAILED, f"Error: {message}", ref.field_path)
        return StartError(reason, message)


@functools.cache
def find_thermal_throttles(cpus: Path = CPU_DIR) -> tuple[str, ...]:
    """Per-CPU counters that disclose the activity of neighbours; masked as by a kubelet. Blocking."""
    return tuple(sorted(str(path) for path in cpus.glob("cpu[0-9]*/thermal_throttle")))


def _target_id(ref: ContainerRef, observed: Observation) -> str:
    """Container whose process namespace an ephemeral container joins."""
    target: Any = ref.spec.get("targetContainerName") if ref.kind == "ephemeral" else None
    if not target:
        return ""
    newest = observed.newest(target)
    if newest is None:
        raise ContainerConfigError(f"unable to find target container {target}")
    return newest.id
