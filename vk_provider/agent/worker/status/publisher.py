"""Computes the PodStatus and sends it when it changed; quick intermediate states of a start are skipped."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.runtime import RuntimeServiceError
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.rules.podstate import all_containers_removed, regular_container_started
from vk_provider.agent.worker.rules.spec import generation_of, is_host_network
from vk_provider.agent.worker.sandbox.cgroups import read_pod_config
from vk_provider.agent.worker.sandbox.config import cgroup_parent
from vk_provider.agent.worker.status.container import StatusInputs, compute_statuses
from vk_provider.agent.worker.status.observer import Observer
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import Phase, compute_phase
from vk_provider.podmodel.podresources import ResourceConfig
from vk_provider.podmodel.status import ContainerStatuses, Ending, SandboxFacts, build_pod_status, has_initialized
from vk_provider.rfc3339 import format_time

log = logging.getLogger(__name__)

SETTLE_S = 0.5
MAX_SETTLE_S = 1.0


class StatusSink(Protocol):
    """Sends statuses: the session's outbox."""

    def send_status(self, pod_uid: str, status: Json, finished: bool) -> None: ...


class StatusPublisher:
    """One loop; `request` says that something may have changed.

    While the pod starts and a pass is under way, a status waits until nothing changed for 0.5 s (at most 1 s), so that
    a pod that starts quickly is published once, as Running.
    """

    def __init__(
        self,
        memory: PodMemory,
        facts: InstanceFacts,
        observer: Observer,
        probes: ProbeManager,
        sink: StatusSink,
        save: Callable[[], None],
        *,
        recursive_read_only: bool = False,
    ) -> None:
        self._memory = memory
        self._facts = facts
        self._observer = observer
        self._probes = probes
        self._sink = sink
        self._save = save
        self._recursive_read_only = recursive_read_only
        self._dirty = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._publishing = asyncio.Lock()
        self._save_due = False
        self._pass_begun = False
        self._initialized: bool | None = None
        self._sent: tuple[Json, bool] | None = None
        if memory.recovered:  # the worker has put it into the outbox already
            self._sent = (copy.deepcopy(memory.status), memory.finished)
        self.observed = Observation()

    def request(self, *, save: bool = False) -> None:
        """Something may have changed. save: the memory has, keep it even when the status stays the same."""
        self._save_due = self._save_due or save
        self._dirty.set()

    def begin_pass(self) -> None:
        """The next status is the one that a kubelet generates when it begins a pass: what is not ready is probed."""
        self._pass_begun = True

    def set_busy(self, busy: bool) -> None:
        """A pass is under way; its end publishes what is waiting."""
        if busy:
            self._idle.clear()
        else:
            self._idle.set()

    async def run(self) -> None:
        while True:
            await self._dirty.wait()
            await self._settle()
            self._dirty.clear()
            try:
                await self.publish()
            except RuntimeServiceError as error:
                log.warning("status not computed: %s", error)
                await asyncio.sleep(0.5)
                self._dirty.set()
            except Exception:  # the next change computes it anew
                log.exception("status not computed")
                await asyncio.sleep(1.0)

    async def publish(self) -> None:
        """Observe, compute and send if it changed; raises RuntimeServiceError."""
        async with self._publishing:
            await self._publish()

    async def _publish(self) -> None:
        memory = self._memory
        # What is observed after this is at least as new as these facts.
        stopped, finished = memory.stopped, memory.finished
        # A pod that has not been Running yet has its allocated resources in the status.
        looks = not stopped and memory.status.get("phase") == "Running"
        config = await asyncio.to_thread(read_pod_config, cgroup_parent(memory.pod)) if looks else None
        # Nothing is awaited between this and the computed status: a restart that ends then would overtake it.
        self.observed = await self._observe()
        if not stopped:
            visible = self.observed.without(memory.starting)
            pod_ip = memory.context(self._facts).pod_ips[0]
            trigger, self._pass_begun = self._pass_begun, False
            self._probes.sync(memory.pod, visible, pod_ip, terminating=memory.must_stop, trigger=trigger)
        status = self.compute_status(self.observed, config, stopped=stopped)
        memory.status = status
        if (status, finished) == self._sent:
            if self._save_due:
                self._save_due = False
                self._save()
            return
        self._save_due = False
        self._sent = (copy.deepcopy(status), finished)
        # Saved before it is sent: a status that the provider has must survive a crash.
        self._save()
        self._sink.send_status(memory.uid, status, finished)

    async def _observe(self) -> Observation:
        """One that no restart has overtaken: it would show the end of the old container without the new one."""
        restarts = self._memory.restarts
        while True:
            ended = restarts.ended
            observed = await self._observer.observe()
            if restarts.ended == ended:
                return observed

    def compute_phase(self, observed: Observation) -> Phase:
        """The phase by the containers, possibly a terminal one while something still runs."""
        pod = self._memory.taken
        lists = compute_statuses(pod, observed.without(self._memory.starting), self._inputs())
        started = regular_container_started(pod, observed)
        return compute_phase(pod, [*lists.init, *lists.regular], False, started)

    def compute_status(self, observed: Observation, config: ResourceConfig | None, *, stopped: bool) -> Json:
        """config: of the pod's cgroup. stopped: everything had ended before `observed` was read."""
        memory = self._memory
        pod = memory.taken
        lists = compute_statuses(pod, observed.without(memory.starting), self._inputs())
        if not memory.must_stop:
            self._initialized = has_initialized(pod, lists.init, lists.regular)
        return build_pod_status(
            pod,
            ContainerStatuses(lists.init, lists.regular, lists.ephemeral),
            replace(self._sandbox_facts(observed), config=config),
            memory.context(self._facts),
            format_time(),
            ending=Ending(
                stopped,
                containers_may_run=not stopped,
                finished=stopped,
                cause=memory.end,
                initialized=self._initialized,
            ),
            resize_conditions=tuple(
                each for each in memory.resize.conditions if each["observedGeneration"] <= generation_of(pod)
            ),
            previous_status=memory.status,
        )

    def _inputs(self) -> StatusInputs:
        memory = self._memory
        return StatusInputs(
            previous=memory.status,
            probes=self._probes.results,
            failures=memory.failures,
            actuated=memory.resize.actuated,
            restarting_all=memory.restarting_all,
            recursive_read_only=self._recursive_read_only,
            restarts=memory.restarts.under_way,
        )

    def _sandbox_facts(self, observed: Observation) -> SandboxFacts:
        memory = self._memory
        newest = observed.sandboxes[0] if observed.sandboxes else None
        removed = all_containers_removed(memory.taken, observed) and not memory.restarts.under_way
        restarting_all = memory.restarting_all and not removed
        if newest is None or (not memory.volumes_ready and not observed.containers):
            # A kubelet makes no sandbox before the volumes are there.
            return SandboxFacts(restarting_all=restarting_all)
        shown = newest.ip and newest.ready and not is_host_network(memory.pod)
        ips = (newest.ip, *newest.additional_ips) if shown else ()
        return SandboxFacts(
            exists=True,
            ready=newest.ready,
            ips=ips,
            started_containers=regular_container_started(memory.taken, observed),
            restarting_all=restarting_all,
        )

    async def _settle(self) -> None:
        if self._memory.must_stop or (self._memory.status.get("phase") or "Pending") != "Pending":
            return
        deadline = time.monotonic() + MAX_SETTLE_S
        while not self._idle.is_set() and time.monotonic() < deadline:
            self._dirty.clear()
            try:
                async with asyncio.timeout(SETTLE_S):
                    await self._idle.wait()
            except TimeoutError:
                if not self._dirty.is_set():
                    return
