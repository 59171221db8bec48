"""Runs one probe of one container when its schedule says so, and tells what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.probes.schedule import ProbeCounter, ProbeSchedule, ProbeType, is_final
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.facts import ProbeResult
from vk_provider.jsontypes import Json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContainerProbe:
    """A probe of a container (one ID).

    probe:      the API's Probe
    field_path: of the container, for events
    """

    type: ProbeType
    probe: Json
    target: ProbeTarget
    field_path: str


class ProbeWorker:
    """Probes until it is cancelled, or until its result is final.

    schedule: on the clock of the event loop
    report:   called with every result that reached its threshold
    """

    def __init__(
        self,
        probe: ContainerProbe,
        *,
        schedule: ProbeSchedule,
        counter: ProbeCounter,
        prober: Prober,
        recorder: Recorder,
        report: Callable[[ProbeResult], None],
    ) -> None:
        self._probe = probe
        self._schedule = schedule
        self._counter = counter
        self._prober = prober
        self._recorder = recorder
        self._report = report
        self._triggered = asyncio.Event()

    def trigger(self) -> None:
        """Probe now, or once more after the probe that is under way."""
        self._triggered.set()

    async def run(self) -> None:
        while True:
            await self._tick()
            if self._schedule.take(asyncio.get_running_loop().time()) and await self._run_once():
                return

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout_at(self._schedule.next_s):
                await self._triggered.wait()
        except TimeoutError:
            return
        self._triggered.clear()
        self._schedule.trigger(asyncio.get_running_loop().time())

    async def _run_once(self) -> bool:
        """Probe once; return whether the result is final."""
        try:
            outcome = await self._prober.probe(self._probe.probe, self._probe.target)
        except Exception:  # as in a kubelet, the worker continues: otherwise the container would never be probed again
            log.exception("%s probe of container %s", self._probe.type, self._probe.target.container["name"])
            return False
        self._record(outcome)
        if outcome.verdict == "error":
            return False
        result = self._counter.count("failure" if outcome.verdict == "failure" else "success")
        if result is None:
            return False
        self._report(result)
        return is_final(self._probe.type, result)

    def _record(self, outcome: ProbeOutcome) -> None:
        kind, field_path = self._probe.type.capitalize(), self._probe.field_path
        if outcome.verdict == "failure":
            self._recorder.warn(eventreasons.UNHEALTHY, f"{kind} probe failed: {outcome.output}", field_path)
        elif outcome.verdict == "warning":
            self._recorder.warn(eventreasons.PROBE_WARNING, f"{kind} probe warning: {outcome.output}", field_path)
        elif outcome.verdict == "error":
            text = f"{kind} probe errored and resulted in {outcome.error_state} state: {outcome.output}"
            self._recorder.warn(eventreasons.UNHEALTHY, text, field_path)
