"""The end of the pod: everything is stopped, its end published, what it left behind taken away.

Source of the order: SyncTerminatingPod and SyncTerminatedPod of the kubelet (v1.37).
"""

from __future__ import annotations

import asyncio

from vk_provider import eventreasons
from vk_provider.agent.runtime import RuntimeServiceError
from vk_provider.agent.worker.container.killer import ContainerKiller
from vk_provider.agent.worker.container.termination import GracePeriod, pod_grace_s
from vk_provider.agent.worker.deadline import ActiveDeadline
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.preparer import PodPreparer
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.rules.observed import State
from vk_provider.agent.worker.status.observer import Observer
from vk_provider.agent.worker.status.publisher import StatusPublisher


class PodTermination:
    """Idempotent: an end that failed half-way is tried again. `grace` exists while the pod is being stopped."""

    def __init__(
        self,
        own: OwnPod,
        preparer: PodPreparer,
        killer: ContainerKiller,
        observer: Observer,
        probes: ProbeManager,
        publisher: StatusPublisher,
    ) -> None:
        self._memory, self._recorder = own.memory, own.recorder
        self._deadline = ActiveDeadline(own.memory, own.recorder)
        self._preparer, self._killer = preparer, killer
        self._observer, self._probes, self._publisher = observer, probes, publisher
        self.grace: GracePeriod | None = None

    def shorten_grace(self) -> None:
        """A stop that is under way: a shorter grace period counts at once."""
        memory = self._memory
        if self.grace is not None and self.grace.shorten(pod_grace_s(memory.pod, memory.grace_override_s)):
            memory.take_pod()  # the stop has begun anew

    async def run(self) -> None:
        """Stop everything, publish the end, clean up. Raises RuntimeServiceError, VolumeError: call again."""
        memory = self._memory
        await self._preparer.stop_pulling()
        if not memory.stopped:
            observed = await self._observer.observe()
            if self.grace is None:
                self.grace = GracePeriod(pod_grace_s(memory.pod, memory.grace_override_s))
                memory.take_pod()
                self._publisher.begin_pass()
            self._deadline.enforce()
            if memory.end is not None:
                self._probes.end()
            self._publisher.request()
            try:
                await self._killer.kill_all(observed.running(), self.grace)
            except RuntimeServiceError as error:
                self._recorder.warn(eventreasons.FAILED_KILL_POD, f"error killing pod: {error.status_text}")
                raise
            for sandbox in observed.sandboxes:
                await self._killer.stop_sandbox(sandbox.id)
            await self._await_ends()
            await self._probes.close()
            # A pass of its own in a kubelet (SyncTerminatedPod): of the newest pod, and its deadline.
            memory.take_pod()
            self._deadline.enforce()
            memory.stopped = True
        await self._publisher.publish()
        await self._preparer.tear_down()
        memory.finished = True
        await self._publisher.publish()

    async def _await_ends(self) -> None:
        """The runtime learns of an exit some milliseconds after it happened: never publish an end without it."""
        delay_s = 0.005
        while any(c.state is State.RUNNING for c in (await self._observer.observe()).containers):
            await asyncio.sleep(delay_s)
            delay_s = min(0.2, delay_s * 2)
