"""What containers need before they start: sandbox, volumes and images, side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.volumes.errors import VolumeError, VolumeErrors
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.container.pulling import ImagePuller, PullSource
from vk_provider.agent.worker.container.starter import StartPlace
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.rules.actions import Actions
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.rules.spec import (
    describe_pod,
    iter_refs,
    log_directory,
    metadata_of,
    spec_of,
    with_mounted_volumes,
)
from vk_provider.agent.worker.sandbox.cgroups import bounded_config, remove_pod_cgroup, write_pod_config
from vk_provider.agent.worker.sandbox.config import build_sandbox_config, cgroup_parent
from vk_provider.agent.worker.sandbox.resolv_conf import read_resolv_conf
from vk_provider.aiokit.backoff import Backoff
from vk_provider.podmodel.dns import build_dns_config
from vk_provider.podmodel.errors import PodModelError
from vk_provider.podmodel.hostname import build_kernel_hostname
from vk_provider.podmodel.podresources import build_resource_config

log = logging.getLogger(__name__)


class PodPreparer:
    """Idempotent: what is there already is left alone. Failures are events; `on_change` hears of progress."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        volumes: PodVolumes,
        puller: ImagePuller,
        own: OwnPod,
        facts: InstanceFacts,
        on_change: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._volumes = volumes
        self._puller = puller
        self._memory, self._recorder = own.memory, own.recorder
        self._facts = facts
        self._on_change = on_change
        self._sandbox_back_off = Backoff(1.0, 10.0)
        self._volume_back_off = Backoff(0.5, 122.0)
        self._applied_references: object = None
        self._applied_metadata: object = None
        self._applied_volumes: frozenset[str] | None = None

    async def prepare(self, actions: Actions, observed: Observation) -> StartPlace | None:
        """Sandbox, volumes and images side by side; None when one of the first two failed (an event was recorded).

        observed: at the begin of the pass. Back-off and restart counts go by that, as in a kubelet: an end that the
        pass itself has caused is no crash, and an init container that it has removed has run before.
        """
        try:
            config = await asyncio.to_thread(self._sandbox_config, actions.attempt)
        except PodModelError as error:
            self._recorder.warn(eventreasons.FAILED_CREATE_POD_SANDBOX, f"Failed to create pod sandbox: {error}")
            return None
        self._prefetch(actions, config)
        sandbox_id, volumes_ok = await asyncio.gather(self._ensure_sandbox(actions, config), self.ensure_volumes())
        self._on_change()
        if not sandbox_id or not volumes_ok:
            return None
        return StartPlace(sandbox_id, config, self._memory.context(self._facts), observed)

    def _sandbox_config(self, attempt: int) -> pb.PodSandboxConfig:
        memory = self._memory
        dns = build_dns_config(memory.pod, memory.node, read_resolv_conf())
        for reason, message in dns.warnings:
            self._recorder.warn(reason, message)
        hostname = build_kernel_hostname(memory.pod, memory.node["clusterDomain"])
        return build_sandbox_config(memory.pod, attempt, dns, hostname)

    def _prefetch(self, actions: Actions, config: pb.PodSandboxConfig) -> None:
        """Images of containers that this start will need; later starts look at theirs when they come."""
        if not actions.create_sandbox:
            return
        source = PullSource(self._memory.pod, self._memory.references, config)
        for ref in iter_refs(self._memory.pod):
            if ref.kind != "ephemeral":
                self._puller.prefetch(ref, source)

    async def _ensure_sandbox(self, actions: Actions, config: pb.PodSandboxConfig) -> str:
        """Return the ID of the sandbox to use, "" when it could not be made."""
        if not actions.create_sandbox:
            return actions.sandbox_id
        pod, references = self._memory.pod, self._memory.references
        runtime_class = spec_of(pod).get("runtimeClassName")
        unknown = references.get("errors", {}).get(f"runtimeclass/{runtime_class}") if runtime_class else None
        if unknown:
            self._recorder.warn(eventreasons.FAILED_CREATE_POD_SANDBOX, f"Failed to create pod sandbox: {unknown}")
            return ""
        try:
            await asyncio.to_thread(self._prepare_host, config)
            sandbox_id = await self._runtime.run_pod_sandbox(config, references.get("runtimeHandler") or "")
        except (RuntimeServiceError, OSError) as error:
            text = error.status_text if isinstance(error, RuntimeServiceError) else str(error)
            log.warning("pod %s: sandbox not created: %s", describe_pod(pod), text)
            self._recorder.warn(eventreasons.FAILED_CREATE_POD_SANDBOX, f"Failed to create pod sandbox: {text}")
            return ""
        self._sandbox_back_off.reset()
        self._on_change()
        return sandbox_id

    def _prepare_host(self, config: pb.PodSandboxConfig) -> None:
        Path(log_directory(self._memory.pod)).mkdir(parents=True, exist_ok=True)
        wanted = bounded_config(build_resource_config(self._memory.pod))
        for error in write_pod_config(config.linux.cgroup_parent, wanted):
            log.warning("pod %s: %s", describe_pod(self._memory.pod), error)

    async def ensure_volumes(self) -> bool:
        """Set volumes up once, refresh them when what they show has changed."""
        memory = self._memory
        metadata = metadata_of(memory.api_pod)
        shown = (metadata.get("labels"), metadata.get("annotations"))
        pod = with_mounted_volumes(memory.pod)
        names = frozenset(str(volume["name"]) for volume in spec_of(pod).get("volumes") or [])
        more = bool(self._applied_volumes is not None and names - self._applied_volumes)  # of an ephemeral container
        changed = memory.references is not self._applied_references or shown != self._applied_metadata
        if memory.volumes_ready and not changed and not more:
            return True
        references = memory.references
        context = memory.context(self._facts)
        try:
            if memory.volumes_ready and not more:
                await self._volumes.refresh(pod, references, context)
            else:
                await self._volumes.set_up(pod, references, context)
        except VolumeErrors as failed:
            for error in failed.errors:
                self._recorder.warn(error.reason, str(error))
            return memory.volumes_ready
        except VolumeError as error:
            self._recorder.warn(error.reason, str(error))
            return memory.volumes_ready
        except OSError as error:
            self._recorder.warn(eventreasons.FAILED_MOUNT, f"Unable to attach or mount volumes: {error}")
            return memory.volumes_ready
        self._applied_references, self._applied_metadata, self._applied_volumes = references, shown, names
        memory.volumes_ready = True
        self._volume_back_off.reset()
        return True

    async def stop_pulling(self) -> None:
        """No container is started any more."""
        await self._puller.close()

    async def tear_down(self) -> None:
        """Take away the volumes and the pod's cgroup, once nothing runs. Raises VolumeError."""
        await self._volumes.tear_down()
        await asyncio.to_thread(remove_pod_cgroup, cgroup_parent(self._memory.pod))

    def retry_delay_s(self) -> float:
        """Pause after a `prepare` that failed: the back-off of what failed."""
        failed = self._sandbox_back_off if self._memory.volumes_ready else self._volume_back_off
        return failed.next_delay_s()
