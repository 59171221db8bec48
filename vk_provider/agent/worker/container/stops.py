"""Stops what a pass decided to stop while the pod lives on.

Source of the order: SyncPod in pkg/kubelet/kuberuntime/kuberuntime_manager.go (v1.37).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vk_provider import eventreasons
from vk_provider.agent.worker.container.killer import ContainerKiller
from vk_provider.agent.worker.container.termination import GracePeriod, pod_grace_s
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.rules.actions import Actions
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer
from vk_provider.agent.worker.rules.spec import find_ref, init_containers, regular_containers
from vk_provider.agent.worker.status.publisher import StatusPublisher
from vk_provider.jsontypes import Json


class ContainerStops:
    """The stops of a pass. Both raise RuntimeServiceError, InterruptedByStop."""

    def __init__(self, own: OwnPod, killer: ContainerKiller, publisher: StatusPublisher) -> None:
        self._memory, self._recorder, self._stop = own.memory, own.recorder, own.stop
        self._killer, self._publisher = killer, publisher

    async def reset(self, actions: Actions, observed: Observation) -> None:
        """RestartAllContainers: remove everything, in order."""
        await self._begin_restarts(_newest_of({reset.name for reset in actions.reset}, observed))
        for reset in actions.reset:
            ref = find_ref(self._memory.pod, reset.name)
            if reset.running and ref is not None:
                await self._stop.interrupts(self._killer.kill_at_once(ref, reset.container_id))
            await self._killer.remove(reset.container_id)

    async def stop(self, actions: Actions, observed: Observation) -> bool:
        """Stop what must not run; return whether the pass continues to start containers."""
        pod = self._memory.pod
        await self._begin_restarts(_find_restarts(pod, actions, observed))
        if not actions.kill_pod:
            for kill in actions.kill:
                ref = find_ref(pod, kill.name)
                if ref is not None:
                    stopping = self._killer.kill(ref, kill.container_id, kill.message, kill.reason)
                    await self._stop.interrupts(stopping)
            return True
        if actions.create_sandbox and actions.sandbox_id:
            self._recorder.note(eventreasons.SANDBOX_CHANGED, "Pod sandbox changed, it will be killed and re-created.")
        if observed.running():
            grace = GracePeriod(pod_grace_s(pod, None))
            await self._stop.interrupts(self._killer.kill_all(observed.running(), grace))
        for sandbox in observed.sandboxes:
            if sandbox.ready or sandbox.id == actions.sandbox_id:
                await self._killer.stop_sandbox(sandbox.id)
        if not actions.create_sandbox:
            return False
        for container in init_containers(pod):
            for record in observed.history(container["name"]):
                await self._killer.remove(record.id)
        return True

    async def _begin_restarts(self, records: Iterable[ObservedContainer]) -> None:
        """Publish what is so now: their statuses stay like this until the containers are started again."""
        restarting = tuple(records)
        if restarting:
            await self._publisher.publish()
            self._memory.restarts.begin(restarting)


def _find_restarts(pod: Json, actions: Actions, observed: Observation) -> tuple[ObservedContainer, ...]:
    """What this pass starts again, stopped by it or ended before; with a new sandbox everything that runs."""
    names = {init_containers(pod)[index]["name"] for index in actions.start_init}
    names |= {regular_containers(pod)[index]["name"] for index in actions.start_regular}
    if actions.create_sandbox:
        names |= {record.name for record in observed.running()}
    return _newest_of(names, observed)


def _newest_of(names: Collection[str], observed: Observation) -> tuple[ObservedContainer, ...]:
    return tuple(record for name in names if (record := observed.newest(name)) is not None)
