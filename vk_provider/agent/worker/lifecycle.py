"""One pass over the pod (`sync`) and its end (`terminate`): carries out what `core` decides.

Source of the order: SyncPod and SyncTerminatingPod of the kubelet (v1.37).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.container.killer import ContainerKiller
from vk_provider.agent.worker.container.pulling import ImagePuller
from vk_provider.agent.worker.container.starter import ContainerStarter, StartPlace
from vk_provider.agent.worker.container.termination import GracePeriod, pod_grace_s
from vk_provider.agent.worker.errors import InterruptedByStop, StartError
from vk_provider.agent.worker.gate import StartGate
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.preparer import PodPreparer
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.resizer import Resizer
from vk_provider.agent.worker.rules.core import (
    Actions,
    all_containers_removed,
    compute_actions,
    remaining_deadline_s,
    should_restart_all,
)
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.restarts import find_surplus
from vk_provider.agent.worker.rules.spec import (
    ContainerRef,
    back_off_key,
    describe_pod,
    ephemeral_containers,
    find_ref,
    init_containers,
    iter_refs,
    regular_containers,
)
from vk_provider.agent.worker.sandbox.cgroups import remove_pod_cgroup
from vk_provider.agent.worker.sandbox.config import cgroup_parent
from vk_provider.agent.worker.status.observer import Observer
from vk_provider.agent.worker.status.publisher import StatusPublisher
from vk_provider.agent.worker.stopping import StopRequest
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.restart import crash_loop_message
from vk_provider.podmodel.status import PodEnd
from vk_provider.rfc3339 import parse_time

log = logging.getLogger(__name__)

RETRY_S = 10.0
"""The kubelet's pause before it tries again what failed."""
RELIST_S = 1.0
"""How soon a kubelet sees that a container whose start has failed is there and has ended (PLEG): no event of containerd
tells of it, as its process never was."""
VOLUMES_WAIT_S = 123.0
"""How long one pass of a kubelet waits for volumes (podAttachAndMountTimeout)."""


class PodLifecycle:
    """The pod's passes. A stop request interrupts what takes long; `grace` exists while the pod is being stopped."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        volumes: PodVolumes,
        puller: ImagePuller,
        preparer: PodPreparer,
        gate: StartGate,
        starter: ContainerStarter,
        observer: Observer,
        probes: ProbeManager,
        recorder: Recorder,
        killer: ContainerKiller,
        publisher: StatusPublisher,
        resizer: Resizer,
        memory: PodMemory,
        stop: StopRequest,
    ) -> None:
        self._runtime = runtime
        self._volumes = volumes
        self._puller = puller
        self._preparer = preparer
        self._gate = gate
        self._starter = starter
        self._observer = observer
        self._probes = probes
        self._recorder = recorder
        self._killer = killer
        self._publisher = publisher
        self._resizer = resizer
        self._memory = memory
        self._stop = stop
        self._volumes_until_s: float | None = None
        self.grace: GracePeriod | None = None

    # -- a pass --------------------------------------------------------------------------------------------------------

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
        if self._publisher.compute_phase(observed) in TERMINAL_PHASES:
            self._probes.end()
            self._stop.set()
            raise InterruptedByStop("all containers are done")
        next_s = self._check_deadline()
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
            await self._begin_restarts(_newest_of({reset.name for reset in actions.reset}, observed))
            await self._reset(actions)
            return time.time()
        if actions.kill and not await self._preparer.ensure_volumes():
            # What could not be started again is not stopped: a kubelet waits for the volumes before it does either.
            return self._await_volumes(next_s)
        if not await self._kill(actions, observed):
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
        await self._prune(place.observed)
        await self._stop.interrupts(self._gate.wait())
        await self._resizer.widen()
        return _earliest(next_s, await self._start_containers(actions, place))

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
        return _earliest(next_s, time.time() + self._preparer.retry_delay_s())

    def _check_deadline(self) -> float | None:
        memory = self._memory
        start_time = memory.status.get("startTime")
        started_at_s = parse_time(start_time) if start_time else 0.0
        remaining_s = remaining_deadline_s(memory.pod, started_at_s, time.time())
        if remaining_s is None:
            return None
        if remaining_s > 0:
            return time.time() + remaining_s
        message = "Pod was active on the node longer than the specified deadline"
        self._recorder.note(eventreasons.DEADLINE_EXCEEDED, message)
        memory.end = PodEnd("DeadlineExceeded", message)
        self._stop.set()
        raise InterruptedByStop(message)

    async def _begin_restarts(self, records: Iterable[ObservedContainer]) -> None:
        """Publish what is so now: their statuses stay like this until the containers are started again."""
        restarting = tuple(records)
        if restarting:
            await self._publisher.publish()
            self._memory.restarts.begin(restarting)

    async def _reset(self, actions: Actions) -> None:
        """RestartAllContainers: remove everything, in order."""
        for reset in actions.reset:
            ref = find_ref(self._memory.pod, reset.name)
            if reset.running and ref is not None:
                await self._stop.interrupts(self._killer.kill_at_once(ref, reset.container_id))
            await self._runtime.remove_container(reset.container_id)

    async def _kill(self, actions: Actions, observed: Observation) -> bool:
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
                await self._runtime.stop_pod_sandbox(sandbox.id)
        if not actions.create_sandbox:
            return False
        for container in init_containers(pod):
            for record in observed.history(container["name"]):
                await self._runtime.remove_container(record.id)
        return True

    # -- containers ----------------------------------------------------------------------------------------------------

    async def _start_containers(self, actions: Actions, place: StartPlace) -> float | None:
        """Start in the kubelet's order; return when to try again what failed."""
        pod = self._memory.pod
        retry_s: float | None = None
        for index in actions.start_ephemeral:
            retry_s = _earliest(retry_s, await self._try_start("ephemeral", ephemeral_containers(pod)[index], place))
        for index in actions.start_init:
            container = init_containers(pod)[index]
            failed_until_s = await self._try_start("init", container, place)
            retry_s = _earliest(retry_s, failed_until_s)
            if failed_until_s is not None and container.get("restartPolicy") != "Always":
                return retry_s
        for index in actions.start_regular:
            retry_s = _earliest(retry_s, await self._try_start("regular", regular_containers(pod)[index], place))
        return retry_s

    async def _try_start(self, kind: str, container: dict[str, object], place: StartPlace) -> float | None:
        """Return None when it runs, else when to try again."""
        ref = ContainerRef(kind, container)  # type: ignore[arg-type]
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
                await self._runtime.remove_container(record.id)
                await asyncio.to_thread(_remove_log, record.log_path)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def terminate(self) -> None:
        """Stop everything, publish the end, clean up. Raises RuntimeServiceError: call again."""
        memory = self._memory
        await self._puller.close()
        if not memory.stopped:
            observed = await self._observer.observe()
            if self.grace is None:
                self.grace = GracePeriod(pod_grace_s(memory.pod, memory.grace_override_s))
                memory.take_pod()
                self._publisher.begin_pass()
            if memory.end is not None:
                self._probes.end()
            self._publisher.request()
            try:
                await self._killer.kill_all(observed.running(), self.grace)
            except RuntimeServiceError as error:
                self._recorder.warn(eventreasons.FAILED_KILL_POD, f"error killing pod: {error.status_text}")
                raise
            for sandbox in observed.sandboxes:
                await self._runtime.stop_pod_sandbox(sandbox.id)
            await self._await_ends()
            await self._probes.close()
            memory.stopped = True
        await self._publisher.publish()
        await self._volumes.tear_down()
        await asyncio.to_thread(remove_pod_cgroup, cgroup_parent(memory.pod))
        memory.finished = True
        await self._publisher.publish()

    async def _await_ends(self) -> None:
        """The runtime learns of an exit some milliseconds after it happened: never publish an end without it."""
        delay_s = 0.005
        while any(c.state is State.RUNNING for c in (await self._observer.observe()).containers):
            await asyncio.sleep(delay_s)
            delay_s = min(0.2, delay_s * 2)


def _find_restarts(pod: Json, actions: Actions, observed: Observation) -> tuple[ObservedContainer, ...]:
    """What this pass starts again, stopped by it or ended before; with a new sandbox everything that runs."""
    names = {init_containers(pod)[index]["name"] for index in actions.start_init}
    names |= {regular_containers(pod)[index]["name"] for index in actions.start_regular}
    if actions.create_sandbox:
        names |= {record.name for record in observed.running()}
    return _newest_of(names, observed)


def _newest_of(names: Collection[str], observed: Observation) -> tuple[ObservedContainer, ...]:
    return tuple(record for name in names if (record := observed.newest(name)) is not None)


def _remove_log(path: str) -> None:
    if path:
        Path(path).unlink(missing_ok=True)


def _earliest(*times: float | None) -> float | None:
    return min((each for each in times if each is not None), default=None)
