"""Reads the pod's sandboxes and containers from the runtime; what cannot change any more is read once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker.rules.observed import (
    CONTAINER_NAME,
    CONTAINER_STATES,
    HASH,
    POD_UID,
    RESTART_COUNT,
    TERMINATION_PATH,
    TERMINATION_POLICY,
    Observation,
    ObservedContainer,
    ObservedSandbox,
    State,
    order,
)
from vk_provider.agent.worker.status.messages import read_termination_message
from vk_provider.agent.worker.status.resources import parse_runtime_resources

SIGKILLED = 137
OOM_KILLED = "OOMKilled"


class Observer:
    """One list of sandboxes and one of containers a call; a container's status is asked for once a state."""

    def __init__(self, runtime: ContainerRuntime, pod_uid: str) -> None:
        self._runtime = runtime
        self._pod_uid = pod_uid
        self._containers: dict[tuple[str, int], ObservedContainer] = {}
        self._sandboxes: dict[tuple[str, int], ObservedSandbox] = {}
        self._forgotten = 0
        self._out_of_memory: set[str] = set()

    def note_out_of_memory(self, container_id: str) -> None:
        """The runtime has told of it. CRI learns of that and of the exit in any order, so a status that was read at the
        exit may say "Error" for good (containerd 1.6)."""
        self._out_of_memory.add(container_id)
        self.forget(container_id)

    def forget(self, container_id: str) -> None:
        """Read this container's status anew: what the runtime says of it has changed without its state."""
        self._forgotten += 1
        for key in [key for key in self._containers if key[0] == container_id]:
            del self._containers[key]

    async def observe(self) -> Observation:
        """Raises RuntimeServiceError when the runtime does not answer."""
        listed_sandboxes, listed_containers = await asyncio.gather(
            self._runtime.list_pod_sandboxes(), self._runtime.list_containers()
        )
        sandboxes = [await self._sandbox(s) for s in listed_sandboxes if s.labels.get(POD_UID) == self._pod_uid]
        containers = [await self._container(c) for c in listed_containers if c.labels.get(POD_UID) == self._pod_uid]
        observation = order((s for s in sandboxes if s), (c for c in containers if c))
        self._forget_removed(listed_sandboxes, listed_containers)
        return observation

    async def _sandbox(self, listed: pb.PodSandbox) -> ObservedSandbox | None:
        key = (listed.id, int(listed.state))
        known = self._sandboxes.get(key)
        if known is None:
            status = await self._runtime.pod_sandbox_status(listed.id)
            if status is None:
                return None
            known = self._sandboxes[key] = parse_sandbox(status)
        return known

    async def _container(self, listed: pb.Container) -> ObservedContainer | None:
        key = (listed.id, int(listed.state))
        known = self._containers.get(key)
        if known is None:
            forgotten = self._forgotten
            status = await self._runtime.container_status(listed.id)
            if status is None:
                return None
            known = parse_container(status, listed.pod_sandbox_id)
            if known.state is State.EXITED:
                if known.id in self._out_of_memory and known.exit_code == SIGKILLED and known.reason == "Error":
                    known = replace(known, reason=OOM_KILLED)
                known = await asyncio.to_thread(_with_message, known, status)
            if forgotten == self._forgotten:  # else it may have been read before the update
                self._containers[(listed.id, int(status.state))] = known
        return known

    def _forget_removed(self, sandboxes: list[pb.PodSandbox], containers: list[pb.Container]) -> None:
        alive = {sandbox.id for sandbox in sandboxes} | {container.id for container in containers}
        self._containers = {key: known for key, known in self._containers.items() if key[0] in alive}
        self._out_of_memory &= alive
        self._sandboxes = {key: known for key, known in self._sandboxes.items() if key[0] in alive}


def parse_sandbox(status: pb.PodSandboxStatus) -> ObservedSandbox:
    options = status.linux.namespaces.options
    return ObservedSandbox(
        id=status.id,
        attempt=status.metadata.attempt,
        ready=status.state == pb.SANDBOX_READY,
        created_at_ns=status.created_at,
        ip=status.network.ip,
        has_network=status.HasField("network"),
        host_network=options.network == pb.NODE,
        additional_ips=tuple(each.ip for each in status.network.additional_ips),
    )


def parse_container(status: pb.ContainerStatus, sandbox_id: str) -> ObservedContainer:
    state = CONTAINER_STATES[int(status.state)]
    ended = state is State.EXITED
    return ObservedContainer(
        id=status.id,
        name=status.labels.get(CONTAINER_NAME, ""),
        sandbox_id=sandbox_id,
        state=state,
        created_at_ns=status.created_at,
        started_at_ns=status.started_at if state is not State.CREATED else 0,
        finished_at_ns=status.finished_at if ended else 0,
        exit_code=status.exit_code if ended else 0,
        reason=status.reason if ended else "",
        message=status.message if ended else "",
        image=status.image.image,
        image_ref=status.image_ref,
        hash=status.annotations.get(HASH, ""),
        restart_count=_to_int(status.annotations.get(RESTART_COUNT)),
        log_path=status.log_path,
        user=_parse_user(status),
        resources=parse_runtime_resources(status),
    )


def _parse_user(status: pb.ContainerStatus) -> dict[str, Any] | None:
    """Newer runtimes report the user of the first process."""
    if not status.HasField("user") or not status.user.HasField("linux"):
        return None
    linux = status.user.linux
    user: dict[str, Any] = {"uid": linux.uid, "gid": linux.gid}
    if linux.supplemental_groups:
        user["supplementalGroups"] = list(linux.supplemental_groups)
    return {"linux": user}


def _with_message(container: ObservedContainer, status: pb.ContainerStatus) -> ObservedContainer:
    """Blocking: reads the termination message file or the log."""
    policy = status.annotations.get(TERMINATION_POLICY, "")
    started = container.reason not in ("ContainerCannotRun", "StartError")
    text = read_termination_message(
        {mount.container_path: mount.host_path for mount in status.mounts},
        status.annotations.get(TERMINATION_PATH, ""),
        container.log_path,
        fallback_to_logs=policy == "FallbackToLogsOnError" and container.exit_code != 0 and started,
    )
    if not text:
        return container
    joined = f"{container.message}: {text}" if container.message else text
    return replace(container, message=joined)


def _to_int(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
