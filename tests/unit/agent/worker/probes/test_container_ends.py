"""When a container with probes ends, a kubelet's workers find it with their next tick, and each result that this
changes makes a pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.agent.worker import timeloop
from tests.unit.agent.worker.builders import PROBE, container, exited, observed, pod, running
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.facts import ProbeResult
from vk_provider.jsontypes import Json

EVERY_4_S: Json = {**PROBE, "periodSeconds": 4}
BEGUN_S, ENDED_S = 3.0, 9.0


class Silent(Prober):
    """Never answers: tests set the results."""

    def __init__(self) -> None:
        pass

    async def probe(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        return await asyncio.get_running_loop().create_future()


def passes(
    probes: dict[str, Json], results: dict[Any, ProbeResult], *, terminating: bool = False, gone: bool = False
) -> list[float]:
    """When passes are asked for after the end of a container that had these results."""

    async def play() -> list[float]:
        loop, times = asyncio.get_running_loop(), []
        manager = ProbeManager(Silent(), Recorder(Outbox(), "u1"), lambda: times.append(loop.time()))
        main = container("main", **probes)
        await asyncio.sleep(BEGUN_S)
        now, later = running(main, started_at_ns=1), exited(main, 1)
        manager.sync(pod(main), observed(now), "10.0.0.3", terminating=False)
        for kind, result in results.items():
            manager.seed(now.id, kind, result)
        await asyncio.sleep(ENDED_S - BEGUN_S)
        for _ in range(2):  # the second pass changes nothing
            manager.sync(pod(main), observed(*(() if gone else (later,))), "10.0.0.3", terminating=terminating)
        await asyncio.sleep(30)
        await manager.close()
        return times

    return timeloop.run(play())


@pytest.mark.parametrize(
    ("probes", "results", "expected"),
    [
        ({"livenessProbe": EVERY_4_S}, {}, [BEGUN_S + 8]),
        ({"readinessProbe": EVERY_4_S}, {"readiness": "success"}, [BEGUN_S + 8]),
        ({"startupProbe": EVERY_4_S}, {}, [BEGUN_S + 8]),
        ({"livenessProbe": EVERY_4_S}, {"liveness": "failure"}, []),
        ({"readinessProbe": EVERY_4_S}, {}, []),
        ({"startupProbe": EVERY_4_S}, {"startup": "success"}, []),
        ({"startupProbe": EVERY_4_S}, {"startup": "failure"}, []),
        ({"startupProbe": EVERY_4_S, "livenessProbe": PROBE}, {"startup": "failure"}, [BEGUN_S + 10]),
        ({}, {}, []),
    ],
)
def test_a_result_that_the_end_changes_makes_a_pass_with_the_next_tick(
    probes: dict[str, Json], results: dict[Any, ProbeResult], expected: list[float]
) -> None:
    assert passes(probes, results) == pytest.approx(expected)


def test_a_pod_that_ends_or_a_container_that_was_removed_makes_none() -> None:
    assert passes({"livenessProbe": EVERY_4_S}, {}, terminating=True) == []
    assert passes({"livenessProbe": EVERY_4_S}, {}, gone=True) == []
