"""Stops single containers and the whole pod, with hooks and events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from vk_provider import eventreasons
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker.container.hooks import HookError, HookRunner
from vk_provider.agent.worker.container.termination import GracePeriod, TerminationOrder, kill_grace_s, stop_container
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.rules.actions import KillReason
from vk_provider.agent.worker.rules.observed import ObservedContainer
from vk_provider.agent.worker.rules.spec import ContainerRef, find_ref

log = logging.getLogger(__name__)


class ContainerKiller:
    """A container's preStop hook runs once, also when its stop is interrupted and started again."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        hooks: HookRunner,
        own: OwnPod,
        facts: InstanceFacts,
    ) -> None:
        self._runtime = runtime
        self._hooks = hooks
        self._memory, self._recorder = own.memory, own.recorder
        self._facts = facts
        self._pre_stops: dict[str, asyncio.Task[None]] = {}
        self._announced: set[str] = set()

    async def kill(self, ref: ContainerRef, container_id: str, message: str, reason: KillReason = "") -> None:
        """Stop one container while the pod lives on. Raises RuntimeServiceError."""
        grace = GracePeriod(kill_grace_s(self._memory.pod, ref.spec, reason))
        await self._stop(ref, container_id, message, grace, [])

    async def kill_at_once(self, ref: ContainerRef, container_id: str) -> None:
        """Stop one container without a grace period and without hooks (RestartAllContainers)."""
        self._announce(ref, container_id, "killing")
        await self._runtime.stop_container(container_id, 2)

    async def kill_all(self, containers: Iterable[ObservedContainer], grace: GracePeriod) -> None:
        """Stop all containers of the pod in parallel, sidecars after the others. Raises RuntimeServiceError."""
        running = list(containers)
        order = TerminationOrder(self._memory.pod, [container.name for container in running])
        results = await asyncio.gather(
            *(self._kill_in_order(container, grace, order) for container in running), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise errors[0]

    async def remove(self, container_id: str) -> None:
        """Remove a container that has ended. Raises RuntimeServiceError."""
        await self._runtime.remove_container(container_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop a sandbox whose containers have ended. Raises RuntimeServiceError."""
        await self._runtime.stop_pod_sandbox(sandbox_id)

    async def close(self) -> None:
        tasks = list(self._pre_stops.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _kill_in_order(self, container: ObservedContainer, grace: GracePeriod, order: TerminationOrder) -> None:
        ref = find_ref(self._memory.pod, container.name)
        try:
            if ref is None:
                await self._runtime.stop_container(container.id, max(2, int(grace.remaining_s())))
                return
            message = f"Stopping container {container.name}"
            await self._stop(ref, container.id, message, grace, order.predecessors(container.name))
        finally:
            order.set_ended(container.name)

    async def _stop(
        self,
        ref: ContainerRef,
        container_id: str,
        message: str,
        grace: GracePeriod,
        predecessors: list[asyncio.Future[None]],
    ) -> None:
        self._announce(ref, container_id, message)
        pre_stop = self._start_pre_stop(ref, container_id) if grace.seconds > 0 else None
        await stop_container(
            grace=grace,
            predecessors=predecessors,
            pre_stop=pre_stop,
            stop=lambda timeout_s: self._runtime.stop_container(container_id, timeout_s),
        )

    def _announce(self, ref: ContainerRef, container_id: str, message: str) -> None:
        if container_id not in self._announced:
            self._announced.add(container_id)
            self._recorder.note(eventreasons.KILLING, message, ref.field_path)

    def _start_pre_stop(self, ref: ContainerRef, container_id: str) -> asyncio.Task[None] | None:
        handler = (ref.spec.get("lifecycle") or {}).get("preStop")
        if not handler:
            return None
        if container_id not in self._pre_stops:
            self._pre_stops[container_id] = asyncio.create_task(
                self._run_pre_stop(ref, handler, container_id), name=f"pre-stop-{ref.name}"
            )
        return self._pre_stops[container_id]

    async def _run_pre_stop(self, ref: ContainerRef, handler: dict[str, object], container_id: str) -> None:
        pod_ip = self._memory.context(self._facts).pod_ips[0]
        try:
            await self._hooks.run(self._memory.pod, ref.spec, handler, container_id, pod_ip)
        except HookError as error:
            # Its text may hold secrets of the container: not into the event, and not into the log.
            log.info("preStop hook of container %s failed (%d characters of output)", ref.name, len(str(error)))
            self._recorder.warn(eventreasons.FAILED_PRE_STOP_HOOK, "PreStopHook failed", ref.field_path)
