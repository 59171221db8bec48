"""ContainerRuntime: CRI's RuntimeService as the pod worker uses it. Source: cri-api v1 api.proto.

Every method raises RuntimeServiceError. Messages are CRI's own (`cri.api_pb2`).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.api_grpc import RuntimeServiceStub
from vk_provider.agent.cri.connection import DEFAULT_TIMEOUT_S, RuntimeConnection, RuntimeServiceError
from vk_provider.agent.runtime_events import RuntimeEvent, watch_events

__all__ = ["ContainerRuntime", "ExecResult", "RuntimeEvent", "RuntimeServiceError"]

_SANDBOX_TIMEOUT_S = 240.0
"""The kubelet allows twice its request timeout for RunPodSandbox."""
_STATS_TIMEOUT_S = 5.0
"""A runtime that hangs must not delay samples, which need little of it."""
_READY_CONDITIONS = {"RuntimeReady", "NetworkReady"}


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command in a container wrote, and its exit code."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class ContainerRuntime:
    """containerd behind a unix socket. Survives restarts of containerd; must be made inside a running event loop."""

    def __init__(self, address: str) -> None:
        self.connection = RuntimeConnection(address)
        self._stub = RuntimeServiceStub(self.connection.channel)
        self._call = self.connection.call
        self._sandbox_ids: set[str] = set()

    async def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as containerd reports RuntimeReady and NetworkReady; its other conditions are
        warnings. Raises RuntimeServiceError DEADLINE_EXCEEDED that names what is missing."""
        missing = "no answer"
        try:
            async with asyncio.timeout(timeout_s):
                delay_s = 0.005
                while True:
                    missing = await self._find_unready()
                    if not missing:
                        return
                    await asyncio.sleep(delay_s)
                    delay_s = min(0.02, delay_s * 1.3)
        except TimeoutError:
            raise RuntimeServiceError("DEADLINE_EXCEEDED", f"container runtime is not ready: {missing}") from None

    async def _find_unready(self) -> str:
        address = self.connection.address
        if not _exists(address):
            # A call that fails costs some hundred times this look, and instances that boot together look often.
            return f"container runtime at {address} does not answer: there is no such socket yet"
        try:
            reply = await self._call(self._stub.Status, pb.StatusRequest())
        except RuntimeServiceError as error:
            if error.code not in ("UNAVAILABLE", "UNKNOWN", "UNIMPLEMENTED"):  # unimplemented: CRI plugin not up yet
                raise
            return str(error)
        unmet = [c for c in reply.status.conditions if c.type in _READY_CONDITIONS and not c.status]
        return "; ".join(f"{c.type}: {c.reason} {c.message}" for c in unmet)

    async def version(self) -> pb.VersionResponse:
        return await self._call(self._stub.Version, pb.VersionRequest())

    async def handler_features(self) -> pb.RuntimeHandlerFeatures:
        """Features of the default runtime handler; none when the runtime does not report them (containerd 1.6)."""
        reply = await self._call(self._stub.Status, pb.StatusRequest())
        reported = (handler.features for handler in reply.runtime_handlers if handler.name == "")
        return next(reported, pb.RuntimeHandlerFeatures())

    async def run_pod_sandbox(self, config: pb.PodSandboxConfig, runtime_handler: str = "") -> str:
        """Make and start a sandbox, its network included; returns its ID."""
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=runtime_handler)
        reply = await self._call(self._stub.RunPodSandbox, request, _SANDBOX_TIMEOUT_S)
        self._sandbox_ids.add(reply.pod_sandbox_id)
        return str(reply.pod_sandbox_id)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Idempotent; kills containers that still run and releases the address."""
        await self._call(self._stub.StopPodSandbox, pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Idempotent; removes the sandbox's containers too."""
        await self._call(self._stub.RemovePodSandbox, pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))
        self._sandbox_ids.discard(sandbox_id)

    async def pod_sandbox_status(self, sandbox_id: str) -> pb.PodSandboxStatus | None:
        """None when there is no such sandbox."""
        reply = await _or_none(
            self._call(self._stub.PodSandboxStatus, pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id))
        )
        return None if reply is None else reply.status

    async def pod_sandbox_info(self, sandbox_id: str) -> dict[str, Any]:
        """containerd's verbose facts of a sandbox ("pid", "runtimeSpec", ...); {} when there is none."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)
        reply = await _or_none(self._call(self._stub.PodSandboxStatus, request))
        return {} if reply is None else orjson.loads(reply.info.get("info") or "{}")

    async def list_pod_sandboxes(self) -> list[pb.PodSandbox]:
        reply = await self._call(self._stub.ListPodSandbox, pb.ListPodSandboxRequest())
        self._sandbox_ids.update(sandbox.id for sandbox in reply.items)
        return list(reply.items)

    async def create_container(
        self, sandbox_id: str, config: pb.ContainerConfig, sandbox_config: pb.PodSandboxConfig
    ) -> str:
        request = pb.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config)
        return str((await self._call(self._stub.CreateContainer, request)).container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._stub.StartContainer, pb.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, timeout_s: int) -> None:
        """Send the stop signal, after `timeout_s` SIGKILL; returns when the container has exited. Idempotent."""
        request = pb.StopContainerRequest(container_id=container_id, timeout=timeout_s)
        try:
            await self._call(self._stub.StopContainer, request, timeout_s + DEFAULT_TIMEOUT_S)
        except RuntimeServiceError as error:
            if error.code != "NOT_FOUND":
                raise

    async def remove_container(self, container_id: str) -> None:
        """Idempotent."""
        await self._call(self._stub.RemoveContainer, pb.RemoveContainerRequest(container_id=container_id))

    async def list_containers(self) -> list[pb.Container]:
        return list((await self._call(self._stub.ListContainers, pb.ListContainersRequest())).containers)

    async def container_status(self, container_id: str) -> pb.ContainerStatus | None:
        """None when there is no such container."""
        request = pb.ContainerStatusRequest(container_id=container_id)
        reply = await _or_none(self._call(self._stub.ContainerStatus, request))
        return None if reply is None else reply.status

    async def container_info(self, container_id: str) -> dict[str, Any]:
        """containerd's verbose facts of a container ("pid", "runtimeSpec", ...); {} when there is none."""
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
        reply = await _or_none(self._call(self._stub.ContainerStatus, request))
        return {} if reply is None else orjson.loads(reply.info.get("info") or "{}")

    async def update_container_resources(self, container_id: str, resources: pb.LinuxContainerResources) -> None:
        request = pb.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await self._call(self._stub.UpdateContainerResources, request)

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        """Run a command and wait; it is killed after `timeout_s` (whole seconds, rounded up; 0: no limit), which is
        raised as DEADLINE_EXCEEDED. A command that cannot be started raises too."""
        limit_s = math.ceil(timeout_s)
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=limit_s)
        reply = await self._call(self._stub.ExecSync, request, limit_s + DEFAULT_TIMEOUT_S if limit_s else None)
        return ExecResult(reply.stdout, reply.stderr, reply.exit_code)

    async def exec_url(
        self, container_id: str, command: list[str], stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        """URL on containerd's streaming server, good for one use within 60 s."""
        request = pb.ExecRequest(
            container_id=container_id, cmd=command, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return str((await self._call(self._stub.Exec, request)).url)

    async def attach_url(self, container_id: str, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        """URL on containerd's streaming server, good for one use within 60 s."""
        request = pb.AttachRequest(container_id=container_id, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        return str((await self._call(self._stub.Attach, request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str:
        """URL on containerd's streaming server, good for one use within 60 s."""
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._call(self._stub.PortForward, request)).url)

    async def reopen_container_log(self, container_id: str) -> None:
        """Make containerd write to a new file at the container's log path (after the old one was renamed)."""
        await self._call(self._stub.ReopenContainerLog, pb.ReopenContainerLogRequest(container_id=container_id))

    async def list_container_stats(self, sandbox_id: str) -> list[pb.ContainerStats]:
        only = pb.ContainerStatsFilter(pod_sandbox_id=sandbox_id)
        request = pb.ListContainerStatsRequest(filter=only)
        reply = await self._call(self._stub.ListContainerStats, request, _STATS_TIMEOUT_S)
        return list(reply.stats)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Events without end; reconnects by itself and yields "resync" after each (re)connect."""
        return watch_events(self.connection, self._sandbox_ids)

    async def close(self) -> None:
        self.connection.close()


def _exists(address: str) -> bool:
    return os.path.exists(address)


async def _or_none(call: Any) -> Any:
    try:
        return await call
    except RuntimeServiceError as error:
        if error.code != "NOT_FOUND":
            raise
        return None
