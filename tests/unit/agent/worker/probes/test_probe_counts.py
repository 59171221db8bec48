"""What prober_probe_total says of a pod's probes."""

from __future__ import annotations

import asyncio

from tests.unit.agent.worker.builders import PROBE, container, observed, pod, running
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.jsontypes import Json


class OneVerdict(Prober):
    def __init__(self, verdict: str) -> None:
        self._outcome = ProbeOutcome(verdict)
        self.asked = asyncio.Event()

    async def probe(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        self.asked.set()
        return self._outcome


async def count(verdict: str) -> list[Json]:
    """Counts after one probe with this outcome, and after the probe's end."""
    main = container("main", readinessProbe=PROBE)
    prober = OneVerdict(verdict)
    manager = ProbeManager(prober, Recorder(Outbox(), "u1"), lambda: None)
    assert manager.counts() == []
    manager.sync(pod(main), observed(running(main, started_at_ns=1)), "10.0.0.3", terminating=False)
    async with asyncio.timeout(10):
        await prober.asked.wait()
    await asyncio.sleep(0)
    await manager.close()
    return manager.counts()


async def test_results_are_counted_by_container_type_and_result():
    entry = {"container": "main", "probeType": "Readiness", "count": 1}
    assert await count("success") == [{**entry, "result": "successful"}]
    assert await count("warning") == [{**entry, "result": "successful"}]
    assert await count("failure") == [{**entry, "result": "failed"}]


async def test_a_probe_that_could_not_be_run_has_no_result():
    assert await count("error") == []
