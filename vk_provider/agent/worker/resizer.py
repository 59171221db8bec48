"""Carries out in-place resizes: admission against the instance, CRI updates, conditions and events.

Source: pkg/kubelet/allocation/allocation_manager.go, doPodResizeAction in pkg/kubelet/kuberuntime, resize conditions of
pkg/kubelet/status (v1.37).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.worker.container.config import build_resources
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.actions import Actions
from vk_provider.agent.worker.rules.observed import Observation, State
from vk_provider.agent.worker.rules.resize import (
    RESIZABLE,
    ResizePlan,
    decreasing_memory_limits,
    desired_pod_resources,
    desired_resources,
    find_misfit,
    plan_resize,
    refuse_memory_decrease,
    resize_message,
    starts_resized,
    with_resource,
    with_stated_request,
)
from vk_provider.agent.worker.rules.spec import find_ref, generation_of, init_containers, regular_containers
from vk_provider.agent.worker.sandbox.cgroups import (
    ROOT,
    bounded_config,
    read_pod_config,
    read_pod_memory_usage,
    write_pod_config,
)
from vk_provider.agent.worker.sandbox.config import cgroup_parent
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import RESIZE_IN_PROGRESS, RESIZE_PENDING
from vk_provider.podmodel.podresources import ResourceConfig, build_resource_config, inherit_limits
from vk_provider.rfc3339 import format_time


class Resizer:
    """Keeps the allocated and actuated resources and the resize conditions of the pod's memory.

    forget: a container's resources were updated: what is known of its status is old
    root:   where the cgroups are
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        recorder: Recorder,
        memory: PodMemory,
        forget: Callable[[str], None],
        root: Path = ROOT,
    ) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._memory = memory
        self._forget = forget
        self._root = root

    @property
    def in_progress(self) -> bool:
        return self._find(RESIZE_IN_PROGRESS) is not None

    def allocate(self) -> None:
        """Take over changed resources of the spec if the instance can hold them."""
        memory = self._memory
        desired, desired_pod = desired_resources(memory.api_pod), desired_pod_resources(memory.api_pod)
        if desired == memory.resize.allocated and desired_pod == memory.resize.allocated_pod:
            self._drop(RESIZE_PENDING)
            return
        generation = generation_of(memory.api_pod)
        misfit = find_misfit(memory.api_pod, memory.node.get("allocatable") or {})
        if misfit:
            if self._set(RESIZE_PENDING, generation, "Infeasible", misfit):
                text = resize_message("Pod resize Infeasible", memory.api_pod, generation, misfit)
                self._recorder.warn(eventreasons.RESIZE_INFEASIBLE, text)
            return
        self._drop(RESIZE_PENDING)
        memory.resize.allocated, memory.resize.allocated_pod = desired, desired_pod
        self._drop(RESIZE_IN_PROGRESS)
        self._set(RESIZE_IN_PROGRESS, generation)
        self._recorder.note(eventreasons.RESIZE_STARTED, resize_message("Pod resize started", memory.pod, generation))

    def plan(self, observed: Observation) -> ResizePlan:
        running = frozenset(c.name for c in observed.containers if c.state is State.RUNNING)
        return plan_resize(self._memory.pod, self._memory.resize.actuated, self._memory.resize.actuated_pod, running)

    def begin(self) -> None:
        """Containers may start, or fail to, from now on: a resize is told by what has been allocated until here."""
        memory = self._memory
        for name, resources in memory.resize.allocated.items():
            memory.resize.actuated.setdefault(name, resources)

    def starts_resized(self, actions: Actions) -> bool:
        """Whether a container has been resized that the pass is to start."""
        memory, pod = self._memory, self._memory.pod
        starting = [init_containers(pod)[index]["name"] for index in actions.start_init]
        starting += [regular_containers(pod)[index]["name"] for index in actions.start_regular]
        return starts_resized(pod, memory.resize.actuated, memory.resize.actuated_pod, starting)

    async def apply(self, plan: ResizePlan, observed: Observation, *, initialized: bool) -> None:
        """Update running containers and the pod's cgroup, memory before CPU as a kubelet does it.

        The pod's cgroup must always be at least as wide as each of theirs: it grows first and shrinks last.
        initialized: the init containers are done; as with a kubelet, the pod itself counts as resized only then
        """
        now, wanted = await self._read_configs()
        error = await self._refuse_decrease(plan, observed, now, wanted)
        for resource in RESIZABLE:
            error = error or await self._resize(resource, plan.update.get(resource) or (), observed, now, wanted)
        if not error and initialized:
            self._memory.resize.actuated_pod = self._memory.resize.allocated_pod
        self._settle(error, observed)

    async def widen(self) -> None:
        """Before containers start: make the pod's cgroup as wide as they are now, where its sandbox is older than the
        resize. cgroup v1 refuses a quota above that of the pod."""
        if not self.in_progress:
            return
        now, wanted = await self._read_configs()
        if now is None:
            return
        for resource in RESIZABLE:
            await self._write(_split(resource, now, wanted)[0])

    async def _read_configs(self) -> tuple[ResourceConfig | None, ResourceConfig]:
        """What the pod's cgroup has (None: there is none), and what it should have."""
        pod = self._memory.pod
        now = await asyncio.to_thread(read_pod_config, cgroup_parent(pod), self._root)
        return now, await asyncio.to_thread(bounded_config, build_resource_config(pod), self._root)

    async def _refuse_decrease(
        self, plan: ResizePlan, observed: Observation, now: ResourceConfig | None, wanted: ResourceConfig
    ) -> str:
        """Why memory must not be taken away, "" when it may."""
        memory = self._memory
        limits = decreasing_memory_limits(memory.pod, memory.resize.actuated, plan.update.get("memory") or ())
        pod_limit = wanted.memory if now is not None and _shrinks(now.memory, wanted.memory) else None
        if not limits and pod_limit is None:
            return ""
        usage: dict[str, int] = {}
        if limits:
            try:
                usage = await self._read_usage(limits, observed)
            except RuntimeServiceError as error:
                return f"unable to read memory usage: {error.status_text}"
        pod_usage = await asyncio.to_thread(read_pod_memory_usage, cgroup_parent(memory.pod), self._root)
        return refuse_memory_decrease(limits, usage, pod_limit, pod_usage)

    async def _read_usage(self, names: Iterable[str], observed: Observation) -> dict[str, int]:
        """Container name -> bytes in use."""
        stats = await self._runtime.list_container_stats(observed.sandboxes[0].id)
        used = {
            each.attributes.id: each.memory.usage_bytes.value or each.memory.working_set_bytes.value
            for each in stats
            if each.HasField("memory")
        }
        records = {name: observed.newest(name) for name in names}
        return {name: used[record.id] for name, record in records.items() if record is not None and record.id in used}

    async def _resize(
        self,
        resource: str,
        names: Iterable[str],
        observed: Observation,
        now: ResourceConfig | None,
        wanted: ResourceConfig,
    ) -> str:
        """Resize the pod's cgroup and running containers in one resource; return what went wrong."""
        before, after = _split(resource, now, wanted) if now is not None else (None, None)
        error = await self._write(before)
        for name in names:
            error = error or await self._update(name, resource, observed)
        return error or await self._write(after)

    async def _write(self, config: ResourceConfig | None) -> str:
        if config is None:
            return ""
        errors = await asyncio.to_thread(write_pod_config, cgroup_parent(self._memory.pod), config, self._root)
        return errors[0] if errors else ""

    async def _update(self, name: str, resource: str, observed: Observation) -> str:
        """Update one container in place; return what went wrong."""
        memory = self._memory
        pod = memory.pod
        ref, record = find_ref(pod, name), observed.newest(name)
        if ref is None or record is None:
            return ""
        staged = with_resource(memory.resize.actuated.get(name) or {}, inherit_limits(pod, ref.spec), resource)
        asked = {**ref.spec, "resources": with_stated_request(staged)}
        resources = build_resources(pod, asked, memory.memory_capacity_bytes)
        try:
            await self._runtime.update_container_resources(record.id, resources)
        except RuntimeServiceError as error:
            return error.status_text
        finally:
            self._forget(record.id)
        memory.resize.actuated[name] = staged
        return ""

    def _settle(self, error: str, observed: Observation) -> None:
        memory = self._memory
        if error:
            known = self._find(RESIZE_IN_PROGRESS)
            # The generation stays that of the resize which was started.
            generation = int(known["observedGeneration"]) if known is not None else generation_of(memory.api_pod)
            if self._set(RESIZE_IN_PROGRESS, generation, "Error", error):
                text = resize_message("Pod resize error", memory.pod, generation, error)
                self._recorder.warn(eventreasons.RESIZE_ERROR, text)
        elif self.plan(observed).is_empty and memory.resize.actuated_pod == memory.resize.allocated_pod:
            done = self._drop(RESIZE_IN_PROGRESS)
            if done is not None:
                text = resize_message("Pod resize completed", memory.pod, int(done["observedGeneration"]))
                self._recorder.note(eventreasons.RESIZE_COMPLETED, text)

    def _set(self, kind: str, generation: int, reason: str = "", message: str = "") -> bool:
        """Return whether the condition changed."""
        known, now = self._find(kind), format_time()
        condition: Json = {"type": kind, "status": "True", "observedGeneration": generation}
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        if known is not None and {**condition, **_times(known)} == known:
            return False
        self._drop(kind)
        # The status of the condition never changes: its transitions are those of the reason.
        same = known is not None and known.get("reason") == condition.get("reason")
        since = known.get("lastTransitionTime") or now if known is not None and same else now
        condition |= {"lastProbeTime": now, "lastTransitionTime": since}
        self._memory.resize.conditions.append(condition)
        return True

    def _find(self, kind: str) -> Json | None:
        return next((each for each in self._memory.resize.conditions if each["type"] == kind), None)

    def _drop(self, kind: str) -> Json | None:
        """Remove a condition and return it."""
        known = self._find(kind)
        if known is not None:
            self._memory.resize.conditions.remove(known)
        return known


def _times(condition: Json) -> Json:
    return {name: condition.get(name) for name in ("lastProbeTime", "lastTransitionTime")}


def _shrinks(now: int | None, wanted: int | None) -> bool:
    """None is no limit."""
    return wanted is not None and (now is None or wanted < now)


def _split(resource: str, now: ResourceConfig, wanted: ResourceConfig) -> tuple[ResourceConfig, ResourceConfig]:
    """What to write before the containers are updated and what after them, limits apart from requests."""
    if resource == "memory":
        shrinks = _shrinks(now.memory, wanted.memory)
        memory = ResourceConfig(memory=wanted.memory if now.memory != wanted.memory else None)
        return (ResourceConfig(), memory) if shrinks else (memory, ResourceConfig())
    quota = wanted.cpu_quota if now.cpu_quota != wanted.cpu_quota else None
    shares = wanted.cpu_shares if now.cpu_shares != wanted.cpu_shares else None
    quota_first, shares_first = not _shrinks(now.cpu_quota, quota), (shares or 0) > (now.cpu_shares or 0)
    before = ResourceConfig(shares if shares_first else None, quota if quota_first else None, wanted.cpu_period)
    after = ResourceConfig(None if shares_first else shares, None if quota_first else quota, wanted.cpu_period)
    return before, after
