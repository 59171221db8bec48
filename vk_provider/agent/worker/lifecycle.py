"""One pass over the pod (`sync`): carries out what `rules.core` decides.

Source of the order: SyncPod of the kubelet (v1.37).
"""

from __future__ import annotations

import time

from vk_provider.agent.worker.container.starts import RELIST_S, ContainerStarts, earliest
from vk_provider.agent.worker.container.stops import ContainerStops
from vk_provider.agent.worker.deadline import ActiveDeadline
from vk_provider.agent.worker.errors import InterruptedByStop
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.preparer import PodPreparer
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.resizer import Resizer
from vk_provider.agent.worker.rules.core import compute_actions
from vk_provider.agent.worker.rules.podstate import all_containers_removed, should_restart_all
from vk_provider.agent.worker.status.observer import Observer
from vk_provider.agent.worker.status.publisher import StatusPublisher
from vk_provider.podmodel.phase import TERMINAL_PHASES

VOLUMES_WAIT_S = 123.0
"""How long one pass of a kubelet waits for volumes (podAttachAndMountTimeout)."""


class PodLifecycle:
    """The pod's passes. A stop request interrupts what takes long."""

    def __init__(
        self,
        own: OwnPod,
        observer: Observer,
        probes: ProbeManager,
        publisher: StatusPublisher,
        preparer: PodPreparer,
        resizer: Resizer,
        stops: ContainerStops,
        starts: ContainerStarts,
    ) -> None:
        self._memory, self._stop = own.memory, own.stop
        self._deadline = ActiveDeadline(own.memory, own.recorder)
        self._observer, self._probes, self._publisher = observer, probes, publisher
        self._preparer, self._resizer = preparer, resizer
        self._stops, self._starts = stops, starts
        self._volumes_until_s: float | None = None

    async def sync(self) -> float | None:
        """Do one pass; return when the next one is due (seconds since the epoch), None when only events count.

        Raises RuntimeServiceError when the runtime does not answer, InterruptedByStop when the pod has to stop.
        """
        try:
            return await self._sync()
        finally:
            self._memory.restarts.end_all()

    async def _sync(self) -> float | None:
        memory = self._memory
        self._take_pod()
        observed = await self._observer.observe()
        next_s = self._check_deadline()  # before the phase: what is done when it passes fails, too
        if self._publisher.compute_phase(observed) in TERMINAL_PHASES:
            self._probes.end()
            self._stop.set()
            raise InterruptedByStop("all containers are done")
        self._resizer.allocate()
        resize = self._resizer.plan(observed)
        if memory.restarting_all and all_containers_removed(memory.pod, observed):
            # Published while it is set: removed containers must show as restarting, not as lost.
            await self._publisher.publish()
            memory.restarting_all = False
            self._publisher.request(save=True)  # or an agent that is killed now would remove the new ones too
        elif should_restart_all(memory.pod, observed):
            memory.restarting_all = True
        actions = compute_actions(
            memory.pod,
            observed.without(memory.starting),
            self._probes.results,
            restart_all=memory.restarting_all,
            resize_restarts=resize.restart,
        )
        if memory.restarting_all:
            await self._stops.reset(actions, observed)
            return time.time()
        if actions.kill and not await self._preparer.ensure_volumes():
            # What could not be started again is not stopped: a kubelet waits for the volumes before it does either.
            return self._await_volumes(next_s)
        if not await self._stops.stop(actions, observed):
            return next_s
        # As with a kubelet, no resize is carried out, or has been, before the volumes are there.
        if (memory.volumes_ready or observed.containers) and (any(resize.update.values()) or self._resizer.in_progress):
            await self._resizer.apply(resize, observed, initialized=actions.initialized)
        if not actions.starts_something:
            await self._preparer.ensure_volumes()
            return next_s
        place = await self._preparer.prepare(actions, observed)
        if place is None:
            return self._await_volumes(next_s)
        if self._volumes_until_s is not None:  # what starts now is the pod as it is now
            self._volumes_until_s = None
            self._take_pod()
        if not actions.create_sandbox and self._resizer.starts_resized(actions):
            # A kubelet carries such a resize out with each pass, and looks at the pod again after each one.
            next_s = earliest(next_s, time.time() + RELIST_S)
        self._resizer.begin()
        await self._starts.open(place.observed)
        await self._resizer.widen()
        return earliest(next_s, await self._starts.start(actions, place))

    def _take_pod(self) -> None:
        """Begin a pass with the newest pod. A kubelet's pass waits for the volumes, for two minutes; here it comes back
        to look again, and all these are one pass as to what the status speaks of."""
        self._publisher.begin_pass()
        if self._volumes_until_s is not None and time.monotonic() < self._volumes_until_s:
            return
        self._volumes_until_s = None
        if self._memory.take_pod():
            self._publisher.request()

    def _await_volumes(self, next_s: float | None) -> float | None:
        """When to look again after what containers need could not be made."""
        if not self._memory.volumes_ready and self._volumes_until_s is None:
            self._volumes_until_s = time.monotonic() + VOLUMES_WAIT_S
        return earliest(next_s, time.time() + self._preparer.retry_delay_s())

    def _check_deadline(self) -> float | None:
        if self._deadline.enforce():
            self._stop.set()
            raise InterruptedByStop("the deadline of the pod has passed")
        remaining_s = self._deadline.remaining_s()
        return time.time() + remaining_s if remaining_s is not None else None
