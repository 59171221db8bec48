"""Starts what a pass decided to start, in the kubelet's order, each container after its back-off.

Source of the order: SyncPod in pkg/kubelet/kuberuntime/kuberuntime_manager.go (v1.37).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent.worker.container.killer import ContainerKiller
from vk_provider.agent.worker.container.starter import ContainerStarter, StartPlace
from vk_provider.agent.worker.errors import InterruptedByStop, StartError
from vk_provider.agent.worker.gate import StartGate
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.rules.actions import Actions
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.rules.restarts import find_surplus
from vk_provider.agent.worker.rules.spec import (
    ContainerKind,
    ContainerRef,
    back_off_key,
    describe_pod,
    ephemeral_containers,
    init_containers,
    iter_refs,
    regular_containers,
)
from vk_provider.agent.worker.status.publisher import StatusPublisher
from vk_provider.jsontypes import Json
from vk_provider.podmodel.restart import crash_loop_message

RETRY_S = 10.0
"""The kubelet's pause before it tries again what failed."""
RELIST_S = 1.0
"""How soon a kubelet looks at a pod again (PLEG): it sees then that a container whose start has failed is there and has
ended, of which no event of containerd tells, as its process never was."""


class ContainerStarts:
    """The starts of a pass. `open`, then `start`."""

    def __init__(
        self,
        own: OwnPod,
        starter: ContainerStarter,
        gate: StartGate,
        killer: ContainerKiller,
        publisher: StatusPublisher,
    ) -> None:
        self._memory, self._recorder, self._stop = own.memory, own.recorder, own.stop
        self._starter, self._gate = starter, gate
        self._killer, self._publisher = killer, publisher

    async def open(self, observed: Observation) -> None:
        """Make room, and wait for what no container may start before. Raises InterruptedByStop."""
        await self._prune(observed)
        await self._stop.interrupts(self._gate.wait())

    async def start(self, actions: Actions, place: StartPlace) -> float | None:
        """Return when to try again what failed (seconds since the epoch), None when nothing did."""
        pod = self._memory.pod
        retry_s: float | None = None
        for index in actions.start_ephemeral:
            retry_s = earliest(retry_s, await self._try_start("ephemeral", ephemeral_containers(pod)[index], place))
        for index in actions.start_init:
            container = init_containers(pod)[index]
            failed_until_s = await self._try_start("init", container, place)
            retry_s = earliest(retry_s, failed_until_s)
            if failed_until_s is not None and container.get("restartPolicy") != "Always":
                return retry_s
        for index in actions.start_regular:
            retry_s = earliest(retry_s, await self._try_start("regular", regular_containers(pod)[index], place))
        return retry_s

    async def _try_start(self, kind: ContainerKind, container: Json, place: StartPlace) -> float | None:
        """Return None when it runs, else when to try again."""
        ref = ContainerRef(kind, container)
        memory = self._memory
        if self._stop.is_set():
            raise InterruptedByStop("the pod is being stopped")
        try:
            self._check_back_off(ref, place.observed)
            await self._starter.start(ref, place)
        except StartError as error:
            memory.failures[ref.name] = (error.reason, str(error))
            return error.retry_at_s or time.time() + (RELIST_S if error.reason == "RunContainerError" else RETRY_S)
        else:
            memory.failures.pop(ref.name, None)
            return None
        finally:
            memory.restarts.end(ref.name)
            self._publisher.request()

    def _check_back_off(self, ref: ContainerRef, observed: Observation) -> None:
        """Raise CrashLoopBackOff while the container has to wait; count this start otherwise."""
        memory = self._memory
        exited = observed.newest_exited(ref.name)
        if exited is None:
            return
        key = back_off_key(ref.spec)
        finished_s, now_s = exited.finished_at_ns / 1e9, time.time()
        remaining_s = memory.back_off.remaining_s(key, finished_s, now_s)
        if remaining_s > 0:
            where = describe_pod(memory.pod)
            text = f"Back-off restarting failed container {ref.name} in pod {where}"
            self._recorder.warn(eventreasons.BACK_OFF, text, ref.field_path)
            message = crash_loop_message(memory.pod, ref.name, memory.back_off.delay_s(key))
            raise StartError("CrashLoopBackOff", message, retry_at_s=now_s + remaining_s)
        memory.back_off.next(key, finished_s, now_s)

    async def _prune(self, observed: Observation) -> None:
        for ref in iter_refs(self._memory.pod):
            for record in find_surplus(observed.history(ref.name), ref.kind):
                await self._killer.remove(record.id)
                await asyncio.to_thread(_remove_log, record.log_path)


def _remove_log(path: str) -> None:
    if path:
        Path(path).unlink(missing_ok=True)


def earliest(*times: float | None) -> float | None:
    """None when all are."""
    return min((each for each in times if each is not None), default=None)
