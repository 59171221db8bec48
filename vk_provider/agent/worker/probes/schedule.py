"""When the probes of one container come, and what their results add up to. Pure: time is an argument.

A kubelet has one worker for each probe of a pod. It ticks every periodSeconds from the moment the pod was added, before
its images are pulled, so the first tick that finds a container running comes anywhere within its first period; one
within initialDelaySeconds is skipped. Only readiness probes also come at once: each sync of a pod whose container is
not ready triggers one, and the ticks count from there. Source: pkg/kubelet/prober/{worker,prober_manager}.go (v1.37).

Here a pull comes with every pod, and ticks from the pod's start would find a server at any age. Startup and liveness
probes, which kill, therefore begin as late as a kubelet's ever do: a full period after the first moment they may. What
survives on some kubelet survives here. For the same reason a container does not inherit the failures of the one before
it, which a kubelet's worker goes on counting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vk_provider.agent.worker.rules.facts import ProbeResult
from vk_provider.jsontypes import Json

ProbeType = Literal["startup", "liveness", "readiness"]
PROBE_TYPES: tuple[ProbeType, ...] = ("startup", "liveness", "readiness")
INITIAL_RESULTS: dict[ProbeType, ProbeResult] = {
    "startup": "unknown",
    "liveness": "success",
    "readiness": "failure",
}


class ProbeSchedule:
    """Ticks of one probe of one container. All times are seconds on one clock.

    started_at_s: when the container started; of whole seconds, as in its status, initialDelaySeconds counts from there
    begun_at_s:   when the probe was first allowed: the container was seen running, or its startup probe had succeeded
    """

    def __init__(self, probe_type: ProbeType, probe: Json, started_at_s: float, begun_at_s: float) -> None:
        self._period_s = float(probe.get("periodSeconds") or 10)
        self._allowed_s = started_at_s + float(probe.get("initialDelaySeconds") or 0)
        self._first_s = begun_at_s
        if probe_type != "readiness":
            self._first_s = max(begun_at_s, self._allowed_s) + self._period_s
        self.next_s = self._first_s

    def take(self, now_s: float) -> bool:
        """A tick is handled now; return whether it probes. A tick that comes during a probe waits for its end,
        further ones are lost, as with Go's ticker."""
        now_s = max(now_s, self.next_s)  # timers may be a little early
        periods = math.floor((now_s - self._first_s) / self._period_s)
        while self.next_s <= now_s:  # once, or twice where floats are rounded down
            periods += 1
            self.next_s = self._first_s + periods * self._period_s
        return now_s >= self._allowed_s

    def trigger(self, now_s: float) -> None:
        """Tick now, and every period from now on."""
        self._first_s = self.next_s = now_s


@dataclass(slots=True)
class ProbeCounter:
    """Counts consecutive results until a threshold makes them the probe's result."""

    failure_threshold: int = 3
    success_threshold: int = 1
    _last: ProbeResult | None = None
    _run: int = 0

    @classmethod
    def of(cls, probe: Json) -> ProbeCounter:
        return cls(int(probe.get("failureThreshold") or 3), int(probe.get("successThreshold") or 1))

    def count(self, result: ProbeResult) -> ProbeResult | None:
        """Return the result once its threshold is reached, None below it."""
        self._run = self._run + 1 if result == self._last else 1
        self._last = result
        threshold = self.success_threshold if result == "success" else self.failure_threshold
        return result if self._run >= threshold else None

    def begin_container(self) -> None:
        """The next results are another container's: successes count on, as in a kubelet, failures do not."""
        if self._last == "failure":
            self._run = 0


def is_final(probe_type: ProbeType, result: ProbeResult) -> bool:
    """No further probes of this container: one that failed is restarted, one that has started stays so."""
    return probe_type == "startup" or (probe_type == "liveness" and result == "failure")
