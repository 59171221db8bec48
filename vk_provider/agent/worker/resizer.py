"""Carries out in-place resizes: admission against the instance, CRI updates, conditions and events."""

from __future__ import annotations

import asyncio

from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.worker.cgroups import apply_pod_limits
from vk_provider.agent.worker.containers import build_resources
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.observed import Observation, State
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.resize import (
    ResizePlan,
    decreasing_memory_limits,
    desired_resources,
    find_misfit,
    plan_resize,
    refuse_memory_decrease,
    resize_message,
)
from vk_provider.agent.worker.sandbox import cgroup_parent, pod_resources
from vk_provider.agent.worker.spec import find_ref, metadata_of
from vk_provider.jsontypes import Json

_PENDING, _IN_PROGRESS = "PodResizePending", "PodResizeInProgress"


class Resizer:
    """Keeps `memory.allocated`, `memory.actuated` and the resize conditions."""

    def __init__(self, runtime: ContainerRuntime, recorder: Recorder, memory: PodMemory) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._memory = memory

    def allocate(self) -> None:
        """Take over changed resources of the spec if the instance can hold them."""
        memory = self._memory
        desired = desired_resources(memory.api_pod)
        if desired == memory.allocated:
            self._drop(_PENDING)
            return
        misfit = find_misfit(memory.api_pod, memory.node.get("allocatable") or {})
        if misfit:
            if self._set(_PENDING, "Infeasible", misfit):
                text = resize_message("Pod resize Infeasible", memory.api_pod, error=misfit)
                self._recorder.warn("ResizeInfeasible", text)
            return
        self._drop(_PENDING)
        memory.allocated = desired
        self._drop(_IN_PROGRESS)
        self._set(_IN_PROGRESS)
        self._recorder.note("ResizeStarted", resize_message("Pod resize started", memory.pod))

    def plan(self, observed: Observation) -> ResizePlan:
        running = frozenset(c.name for c in observed.containers if c.state is State.RUNNING)
        return plan_resize(self._memory.pod, self._memory.actuated, running)

    async def apply(self, plan: ResizePlan, observed: Observation) -> None:
        """Update running containers. The pod's cgroup must always be wider than each of theirs."""
        refusal = await self._refuse_decrease(plan, observed)
        if refusal:
            self._settle(refusal, observed)
            return
        errors = [await self._update(name, observed) for name in plan.decrease]
        if not plan.is_empty:
            await self._apply_pod_limits()
        errors += [await self._update(name, observed) for name in plan.increase]
        self._settle("; ".join(error for error in errors if error), observed)

    async def _refuse_decrease(self, plan: ResizePlan, observed: Observation) -> str:
        """Why memory must not be taken from running containers, "" when it may."""
        limits = decreasing_memory_limits(self._memory.pod, self._memory.actuated, plan.decrease)
        if not limits:
            return ""
        try:
            stats = await self._runtime.list_container_stats(observed.sandboxes[0].id)
        except RuntimeServiceError as error:
            return f"unable to read memory usage: {error.status_text}"
        used = {
            each.attributes.id: each.memory.usage_bytes.value or each.memory.working_set_bytes.value
            for each in stats
            if each.HasField("memory")
        }
        records = {name: observed.newest(name) for name in limits}
        usage = {name: used[record.id] for name, record in records.items() if record is not None and record.id in used}
        return refuse_memory_decrease(limits, usage)

    async def _apply_pod_limits(self) -> None:
        pod = self._memory.pod
        await asyncio.to_thread(apply_pod_limits, cgroup_parent(pod), pod_resources(pod))

    async def _update(self, name: str, observed: Observation) -> str:
        """Update one container in place; return what went wrong."""
        pod = self._memory.pod
        ref, record = find_ref(pod, name), observed.newest(name)
        if ref is None or record is None:
            return ""
        resources = build_resources(pod, ref.spec, self._memory.memory_capacity_bytes)
        try:
            await self._runtime.update_container_resources(record.id, resources)
        except RuntimeServiceError as error:
            return str(error)
        self._memory.actuated[name] = ref.spec.get("resources") or {}
        return ""

    def _settle(self, error: str, observed: Observation) -> None:
        memory = self._memory
        if error:
            if self._set(_IN_PROGRESS, "Error", error):
                self._recorder.warn("ResizeError", resize_message("Pod resize error", memory.pod, error=error))
        elif self.plan(observed).is_empty:
            generation = self._drop(_IN_PROGRESS)
            if generation is not None:
                text = resize_message("Pod resize completed", memory.pod, generation)
                self._recorder.note("ResizeCompleted", text)

    def _set(self, kind: str, reason: str = "", message: str = "") -> bool:
        """Return whether the condition changed."""
        known = next((c for c in self._memory.resize_conditions if c["type"] == kind), None)
        condition: Json = {"type": kind, "status": "True"}
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        generation = metadata_of(self._memory.api_pod).get("generation") or 0
        condition["observedGeneration"] = generation
        if known == condition:
            return False
        self._drop(kind)
        self._memory.resize_conditions.append(condition)
        return True

    def _drop(self, kind: str) -> int | None:
        """Remove a condition; return the generation it was about, None when there was none."""
        for condition in self._memory.resize_conditions:
            if condition["type"] == kind:
                self._memory.resize_conditions.remove(condition)
                return int(condition.get("observedGeneration") or 0)
        return None
