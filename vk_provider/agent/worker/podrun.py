"""The loops of one pod: built around its memory, woken by messages, runtime events, probe results and timers."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.images import ImageStore
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.runtime import ContainerRuntime, RuntimeEvent, RuntimeServiceError
from vk_provider.agent.volumes.errors import VolumeError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.container.hooks import HookRunner
from vk_provider.agent.worker.container.imageuse import ImageTeller
from vk_provider.agent.worker.container.killer import ContainerKiller
from vk_provider.agent.worker.container.pulling import ImagePuller
from vk_provider.agent.worker.container.pullnotes import PullNotes
from vk_provider.agent.worker.container.starter import ContainerStarter
from vk_provider.agent.worker.container.starts import RETRY_S, ContainerStarts
from vk_provider.agent.worker.container.stops import ContainerStops
from vk_provider.agent.worker.end import PodTermination
from vk_provider.agent.worker.errors import InterruptedByStop
from vk_provider.agent.worker.gate import StartGate, TablesInForce
from vk_provider.agent.worker.http.get import HttpClient
from vk_provider.agent.worker.lifecycle import PodLifecycle
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.monitor import PodMonitor
from vk_provider.agent.worker.ownpod import OwnPod
from vk_provider.agent.worker.preparer import PodPreparer
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.probes.probe import Prober
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.resizer import Resizer
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.status.observer import Observer
from vk_provider.agent.worker.status.publisher import StatusPublisher
from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import container_statuses

log = logging.getLogger(__name__)

RESYNC_S = 60.0
TERMINATE_RETRY_S = 1.0
MISSED_EXIT_DELAYS_S = (0.0, 0.2, 1.0, 4.0)
"""A restarted runtime detects exits that it has missed after a while, and sends no events of them."""


class PodRun:
    """Everything that works for the one pod. `wake` after the memory changed; `run` until cancelled."""

    def __init__(
        self,
        memory: PodMemory,
        runtime: ContainerRuntime,
        images: ImageStore,
        outbox: Outbox,
        journal: Journal,
        facts: InstanceFacts,
        volumes: PodVolumes,
        tables: TablesInForce,
    ) -> None:
        self.memory = memory
        self.volumes = volumes
        self._runtime = runtime
        self._journal = journal
        self._wake = asyncio.Event()
        self._follow_ups: set[asyncio.Task[None]] = set()
        self._ending: set[str] = set()
        self._save_failing = False
        self._http = HttpClient()
        own = OwnPod(memory, Recorder(outbox, memory.uid))
        self._stop, recorder = own.stop, own.recorder
        hooks = HookRunner(runtime, self._http, recorder)
        self._observer = observer = Observer(runtime, memory.uid)
        self._probes = probes = ProbeManager(Prober(runtime, self._http), recorder, self._look_again)
        notes = PullNotes(images.blobs, recorder)
        self._puller = ImagePuller(images, recorder, ImageTeller(outbox, memory).tell, notes)
        self._killer = killer = ContainerKiller(runtime, hooks, own, facts)
        self._publisher = publisher = StatusPublisher(
            memory, facts, observer, probes, outbox, self._save, recursive_read_only=volumes.recursive_read_only
        )
        preparer = PodPreparer(runtime, volumes, self._puller, own, facts, publisher.request)
        starter = ContainerStarter(
            runtime, self._puller, volumes, hooks, own, kill=killer.kill, on_change=publisher.request
        )
        self._resizer = Resizer(runtime, recorder, memory, observer.forget)
        stops = ContainerStops(own, killer, publisher)
        starts = ContainerStarts(own, starter, StartGate(tables, memory, recorder), killer, publisher)
        self._lifecycle = PodLifecycle(own, observer, probes, publisher, preparer, self._resizer, stops, starts)
        self._termination = PodTermination(own, preparer, killer, observer, probes, publisher)
        self._monitor = PodMonitor(runtime, volumes, recorder, memory, lambda: self._publisher.observed, self.wake)

    @property
    def observed(self) -> Observation:
        return self._publisher.observed

    def probe_counts(self) -> list[Json]:
        """Results of the probes so far."""
        return self._probes.counts()

    def wake(self) -> None:
        """Look at the memory and the runtime again; a stop interrupts, a shorter grace period counts at once."""
        if self.memory.must_stop:
            self._stop.set()
            self._termination.shorten_grace()
        # Before the next pass: a status of the new generation without the resize would say that it is done. As with a
        # kubelet's allocation manager, whatever the worker does: also where the pod has ended, so its event comes.
        self._resizer.allocate()
        self._publisher.request(save=True)
        self._wake.set()

    def keep(self) -> None:
        """The memory has changed in what only the next container sees: no pass, but it outlives the agent."""
        self._save()

    async def run(self) -> None:
        """Returns only when cancelled; raises when one of the loops broke."""
        self._restore_probes()
        if self.memory.must_stop:
            self._stop.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_events(), name="pod-events")
                group.create_task(self._publisher.run(), name="pod-publisher")
                group.create_task(self._monitor.run(), name="pod-monitor")
                group.create_task(self._loop(), name="pod-loop")
        finally:
            for task in self._follow_ups:
                task.cancel()
            await self._probes.close()
            await self._puller.close()
            await self._killer.close()

    async def _loop(self) -> None:
        """Passes while the pod lives, then its end; afterwards only its status may have to be computed again."""
        while not self._stop.is_set() and not self.memory.stopped:
            await self._pass()
        await self._terminate()
        while True:
            self._wake.clear()
            await self._wake.wait()
            self._publisher.request()

    async def _pass(self) -> None:
        self._wake.clear()
        self._publisher.set_busy(True)
        next_s: float | None = None
        try:
            next_s = await self._lifecycle.sync()
        except InterruptedByStop:
            return
        except RuntimeServiceError as error:
            log.warning("pass failed: %s", error)
            next_s = time.time() + 1.0
        except Exception:  # one pass must not end the worker: a kubelet tries again too
            log.exception("pass failed")
            next_s = time.time() + RETRY_S
        finally:
            self._publisher.set_busy(False)
            self._publisher.request()
        due_s = min(time.time() + RESYNC_S, next_s if next_s is not None else float("inf"))
        try:
            async with asyncio.timeout(max(0.0, due_s - time.time())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _terminate(self) -> None:
        while not self.memory.finished:
            try:
                await self._termination.run()
            except (RuntimeServiceError, VolumeError) as error:
                log.warning("pod not stopped yet: %s", error)
                await asyncio.sleep(TERMINATE_RETRY_S)
            except Exception:  # as in a pass: the end is tried again, or the pod would never be gone
                log.exception("pod not stopped yet")
                await asyncio.sleep(TERMINATE_RETRY_S)
        # The end is published again after a restart; the publisher skips it if it was sent already.
        self._publisher.request()

    async def _watch_events(self) -> None:
        async for event in self._runtime.events():
            log.debug("runtime event %s %s", event.kind, event.container_id)
            self.take_event(event)

    def take_event(self, event: RuntimeEvent) -> None:
        """Look at the runtime again; after an exit once it knows of it."""
        if event.kind in ("exit", "sandbox-exit", "delete"):
            # A restarted runtime sends only the event of the delete.
            if event.container_id not in self._ending:
                self._follow(self._await_exit(event))
        elif event.kind == "resync":
            self._follow(self._settle_resync())
        else:
            if event.kind == "oom":
                self._observer.note_out_of_memory(event.container_id)
            self._look_again()

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="pod-follow-up")
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)

    async def _settle_resync(self) -> None:
        """Look for exits that no event told of; before the first container there are none."""
        has_run = any(status.get("containerID") for status in container_statuses(self.memory.status))
        for delay_s in MISSED_EXIT_DELAYS_S if has_run else MISSED_EXIT_DELAYS_S[:1]:
            await asyncio.sleep(delay_s)
            self._look_again()

    async def _await_exit(self, event: RuntimeEvent) -> None:
        """The event is ahead of what the runtime's lists say: look again once they know of the exit."""
        self._ending.add(event.container_id)
        try:
            delay_s = 0.002
            while delay_s < 2 and not await self._has_ended(event):
                await asyncio.sleep(delay_s)
                delay_s *= 1.5
        finally:
            self._ending.discard(event.container_id)
            self._look_again()

    async def _has_ended(self, event: RuntimeEvent) -> bool:
        try:
            if event.kind == "sandbox-exit":
                sandbox = await self._runtime.pod_sandbox_status(event.container_id)
                return sandbox is None or sandbox.state == pb.SANDBOX_NOTREADY
            container = await self._runtime.container_status(event.container_id)
            return container is None or container.state == pb.CONTAINER_EXITED
        except RuntimeServiceError:
            return False

    def _look_again(self) -> None:
        self._publisher.request()
        self._wake.set()

    def _restore_probes(self) -> None:
        """After a restart of the agent, started and ready containers are taken to be so until a probe says else."""
        for status in container_statuses(self.memory.status):
            container_id = str(status.get("containerID") or "").removeprefix("containerd://")
            if not container_id or "running" not in (status.get("state") or {}):
                continue
            if status.get("started"):
                self._probes.seed(container_id, "startup", "success")
            if status.get("ready"):
                self._probes.seed(container_id, "readiness", "success")

    def _save(self) -> None:
        # Into the page cache: it has to outlive the agent, not the instance.
        try:
            self._journal.save(self.memory.to_document())
        except OSError as error:
            # The pod may have filled the disk: its status is what must not be lost then.
            if not self._save_failing:
                log.error("the pod's state is not kept on the disk: %s", error)
            self._save_failing = True
        else:
            self._save_failing = False


async def make_volumes(runtime: ContainerRuntime, root: Path) -> PodVolumes:
    """Volumes with the features of this runtime. It reports recursive read-only mounts itself; image volumes, which
    came with containerd 2.1, are known only by its version."""
    reply = await runtime.version()
    found = re.match(r"v?(\d+)\.(\d+)", reply.runtime_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    features = await runtime.handler_features()
    return PodVolumes(root, image_volumes=version >= (2, 1), recursive_read_only=features.recursive_read_only_mounts)
