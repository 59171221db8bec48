"""Which probes run now, for the containers that run now; their newest results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.probes.schedule import (
    INITIAL_RESULTS,
    PROBE_TYPES,
    ProbeCounter,
    ProbeSchedule,
    ProbeType,
)
from vk_provider.agent.worker.probes.worker import ContainerProbe, ProbeWorker
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.facts import ProbeResult, ProbeResults
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.spec import ContainerRef, describe_pod, is_sidecar, iter_refs
from vk_provider.jsontypes import Json

log = logging.getLogger(__name__)


RESULTS_LOST: dict[ProbeType, ProbeResult] = {"startup": "unknown", "liveness": "success", "readiness": "success"}
"""Of each probe, the result that the end of its container changes to a failure (doProbe): a startup probe that had one
is on hold by then, as is a liveness probe that failed."""


class ProbeManager:
    """Keeps one task for each probe that has to run; `on_change` is called when a result changes."""

    def __init__(self, prober: Prober, recorder: Recorder, on_change: Callable[[], None]) -> None:
        self._prober = prober
        self._recorder = recorder
        self._on_change = on_change
        self._tasks: dict[tuple[str, ProbeType], asyncio.Task[None]] = {}
        self._workers: dict[tuple[str, ProbeType], ProbeWorker] = {}
        self._counters: dict[tuple[str, ProbeType], ProbeCounter] = {}
        self._results: dict[ProbeType, dict[str, ProbeResult]] = {kind: {} for kind in PROBE_TYPES}
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._ticks_from_s: float | None = None
        self._looks: set[asyncio.TimerHandle] = set()
        self._ended = False

    def counts(self) -> list[Json]:
        """How often each probe had each result, for prober_probe_total: see wire.session.StatsMessage."""
        return [
            {"container": name, "probeType": kind, "result": result, "count": count}
            for (name, kind, result), count in sorted(self._counts.items())
        ]

    @property
    def results(self) -> ProbeResults:
        return ProbeResults(
            liveness=self._results["liveness"],
            startup=self._results["startup"],
            readiness=self._results["readiness"],
        )

    def seed(self, container_id: str, probe_type: ProbeType, result: ProbeResult) -> None:
        """Set a result known from before a restart of the agent."""
        self._results[probe_type][container_id] = result

    def end(self) -> None:
        """The pod's phase is terminal: no probe comes any more, whatever still runs (doProbe)."""
        self._ended = True
        self._forget_looks()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._workers.clear()

    def sync(self, pod: Json, observed: Observation, pod_ip: str, *, terminating: bool, trigger: bool = True) -> None:
        """Start and stop probes so that they fit the running containers.

        terminating: the pod is being stopped, see `_due`
        trigger:     probe now what is not ready: as a kubelet, once for each pass of the pod's worker
        """
        wanted: set[tuple[str, ProbeType]] = set()
        running: set[str] = set()
        for ref in iter_refs(pod):
            record = observed.newest(ref.name)
            if ref.kind == "ephemeral" or record is None or record.state is not State.RUNNING:
                continue
            if ref.kind == "init" and not is_sidecar(ref.spec):
                continue
            running.add(record.id)
            for kind in self._due(ref, record, terminating):
                wanted.add((record.id, kind))
                if (record.id, kind) not in self._tasks:
                    self._start(kind, ref, ProbeTarget(ref.spec, record.id, pod_ip, describe_pod(pod)), record)
                elif trigger and kind == "readiness" and self._results[kind][record.id] != "success":
                    self._workers[(record.id, kind)].trigger()
        for key in [key for key in self._tasks if key not in wanted]:
            del self._workers[key]
            self._tasks.pop(key).cancel()
        if self._ticks_from_s is None:
            self._ticks_from_s = asyncio.get_running_loop().time()
        for kind, results in self._results.items():
            for container_id in [known for known in results if known not in running]:
                if results.pop(container_id) == RESULTS_LOST[kind] and not terminating and not self._ended:
                    self._look_after(kind, container_id, pod, observed)

    def _look_after(self, kind: ProbeType, container_id: str, pod: Json, observed: Observation) -> None:
        """Make a pass with the probe's next tick, if its container has ended: a kubelet's worker, which finds it not
        running, makes its result a failure then, and a changed result is a pass. It meets the back-off, for one."""
        for ref in iter_refs(pod):
            newest, probe = observed.newest(ref.name), ref.spec.get(f"{kind}Probe")
            if probe and newest is not None and newest.id == container_id:
                period_s = float(probe.get("periodSeconds") or 10)
                now_s = asyncio.get_running_loop().time()
                self._look_in(period_s - (now_s - (self._ticks_from_s or now_s)) % period_s)

    def _look_in(self, delay_s: float) -> None:
        def look() -> None:
            self._looks.discard(handle)
            self._on_change()

        handle = asyncio.get_running_loop().call_later(delay_s, look)
        self._looks.add(handle)

    def _forget_looks(self) -> None:
        for handle in self._looks:
            handle.cancel()
        self._looks.clear()

    def _due(self, ref: ContainerRef, record: ObservedContainer, terminating: bool) -> list[ProbeType]:
        """Probes that run now. While the pod is being stopped only readiness probes do, and all probes of sidecars:
        a kubelet stops the others of regular containers only (StopLivenessAndStartup)."""
        startup = self._results["startup"].get(record.id)
        started = not ref.spec.get("startupProbe") or startup == "success"
        due: list[ProbeType] = []
        if self._ended:
            return due
        for kind in PROBE_TYPES:
            if not ref.spec.get(f"{kind}Probe"):
                continue
            self._results[kind].setdefault(record.id, INITIAL_RESULTS[kind])
            gate = not started if kind == "startup" else started
            if gate and (kind == "readiness" or ref.kind == "init" or not terminating):
                due.append(kind)
        return due

    def _start(self, kind: ProbeType, ref: ContainerRef, target: ProbeTarget, record: ObservedContainer) -> None:
        def report(result: ProbeResult) -> None:
            if self._results[kind].get(record.id) != result:
                self._results[kind][record.id] = result
                self._on_change()

        probe = ref.spec[f"{kind}Probe"]
        counter = self._counters.setdefault((ref.name, kind), ProbeCounter.of(probe))
        counter.begin_container()
        now_s = asyncio.get_running_loop().time()
        age_s = time.time() - record.started_at_ns // 1_000_000_000
        worker = ProbeWorker(
            ContainerProbe(kind, probe, target, ref.field_path),
            schedule=ProbeSchedule(kind, probe, now_s - age_s, now_s),
            counter=counter,
            prober=_CountingProber(self._prober, self._counts, ref.name, kind.capitalize()),
            recorder=self._recorder,
            report=report,
        )
        task = asyncio.create_task(worker.run(), name=f"{kind}-probe-{ref.name}")
        task.add_done_callback(_log_failure)
        self._tasks[(record.id, kind)] = task
        self._workers[(record.id, kind)] = worker

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._workers.clear()
        self._forget_looks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _CountingProber(Prober):
    """Counts the results of one probe over all containers of that name; errors, which have no result, do not count."""

    def __init__(self, prober: Prober, counts: Counter[tuple[str, str, str]], name: str, kind: str) -> None:
        self._prober, self._counts, self._key = prober, counts, (name, kind)

    async def probe(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        outcome = await self._prober.probe(probe, target)
        if outcome.verdict != "error":
            self._counts[(*self._key, "failed" if outcome.verdict == "failure" else "successful")] += 1
        return outcome


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("%s failed", task.get_name(), exc_info=task.exception())
