"""When one probe of one container runs, and what its results add up to.

`ProbeCounter` is the pure part: thresholds over consecutive results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vk_provider.agent.worker.core import ProbeResult
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.jsontypes import Json

log = logging.getLogger(__name__)

ProbeType = Literal["startup", "liveness", "readiness"]
PROBE_TYPES: tuple[ProbeType, ...] = ("startup", "liveness", "readiness")
INITIAL_RESULTS: dict[ProbeType, ProbeResult] = {
    "startup": "unknown",
    "liveness": "success",
    "readiness": "failure",
}


@dataclass(slots=True)
class ProbeCounter:
    """Counts consecutive results until a threshold makes them the probe's result."""

    failure_threshold: int = 3
    success_threshold: int = 1
    _last: ProbeResult | None = None
    _run: int = 0

    def count(self, result: ProbeResult) -> ProbeResult | None:
        """Return the result once its threshold is reached, None below it."""
        self._run = self._run + 1 if result == self._last else 1
        self._last = result
        threshold = self.success_threshold if result == "success" else self.failure_threshold
        return result if self._run >= threshold else None


class ProbeWorker:
    """Probes one container (one ID) until it is cancelled, or until its result is final.

    report(result) is called with every result that reached its threshold. A liveness failure and every startup result
    are final for this container ID.
    """

    def __init__(
        self,
        probe_type: ProbeType,
        probe: Json,
        target: ProbeTarget,
        *,
        started_at_s: float,
        field_path: str,
        prober: Prober,
        recorder: Recorder,
        report: Callable[[ProbeResult], None],
    ) -> None:
        self.probe_type = probe_type
        self._probe = probe
        self._target = target
        self._started_at_s = started_at_s
        self._field_path = field_path
        self._prober = prober
        self._recorder = recorder
        self._report = report
        self._counter = ProbeCounter(int(probe.get("failureThreshold") or 3), int(probe.get("successThreshold") or 1))

    async def run(self) -> None:
        period_s = float(self._probe.get("periodSeconds") or 10)
        delay_s = self._started_at_s + float(self._probe.get("initialDelaySeconds") or 0) - time.time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        tick = loop.time()
        while not await self._run_once():
            now = loop.time()
            tick += period_s * (1 + max(0, int((now - tick) // period_s)))  # a slow probe skips ticks, as Go's ticker
            await asyncio.sleep(tick - now)

    async def _run_once(self) -> bool:
        """Probe once; return whether the result is final."""
        try:
            outcome = await self._prober.probe(self._probe, self._target)
        except Exception:  # as in a kubelet, the worker continues: otherwise the container would never be probed again
            log.exception("%s probe of container %s", self.probe_type, self._target.container["name"])
            return False
        self._record(outcome)
        if outcome.verdict == "error":
            return False
        result = self._counter.count("failure" if outcome.verdict == "failure" else "success")
        if result is None:
            return False
        self._report(result)
        return self.probe_type == "startup" or (self.probe_type == "liveness" and result == "failure")

    def _record(self, outcome: ProbeOutcome) -> None:
        kind = self.probe_type.capitalize()
        if outcome.verdict == "failure":
            self._recorder.warn("Unhealthy", f"{kind} probe failed: {outcome.output}", self._field_path)
        elif outcome.verdict == "warning":
            self._recorder.warn("ProbeWarning", f"{kind} probe warning: {outcome.output}", self._field_path)
        elif outcome.verdict == "error":
            text = f"{kind} probe errored and resulted in unknown state: {outcome.output}"
            self._recorder.warn("Unhealthy", text, self._field_path)
