"""A probe's worker goes on whatever a single probe does."""

from __future__ import annotations

from typing import Any

from tests.unit.agent.worker.builders import container
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.probes.schedule import ProbeCounter, ProbeSchedule
from vk_provider.agent.worker.probes.worker import ContainerProbe, ProbeWorker
from vk_provider.agent.worker.rules.facts import ProbeResult

TARGET = ProbeTarget(container("main"), "main-1", "127.0.0.1")


class PreparedProber:
    """Answers in the order given."""

    def __init__(self, *answers: ProbeOutcome | Exception) -> None:
        self._answers = list(answers)

    async def probe(self, probe: Any, target: ProbeTarget) -> ProbeOutcome:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Events:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []

    def warn(self, reason: str, message: str, field_path: str = "") -> None:
        self.warnings.append((reason, message))


async def test_a_probe_that_breaks_is_run_again() -> None:
    results: list[ProbeResult] = []
    prober: Any = PreparedProber(RuntimeError("broken"), ProbeOutcome("success"))
    recorder: Any = Events()
    worker = ProbeWorker(
        ContainerProbe("readiness", {"successThreshold": 1}, TARGET, "spec.containers{main}"),
        schedule=ProbeSchedule("readiness", {}, 0.0, 0.0),
        counter=ProbeCounter(),
        prober=prober,
        recorder=recorder,
        report=results.append,
    )
    assert await worker._run_once() is False
    assert results == [] and recorder.warnings == []
    assert await worker._run_once() is False
    assert results == ["success"]


async def test_a_host_that_is_no_name_is_a_failure() -> None:
    nothing: Any = None
    outcome = await Prober(nothing, nothing).probe({"tcpSocket": {"host": "a..b", "port": 80}}, TARGET)
    assert (outcome.verdict, outcome.output) == ("failure", "dial tcp: lookup a..b: no such host")


async def test_an_unknown_port_name_is_an_error_of_the_probe() -> None:
    nothing: Any = None
    outcome = await Prober(nothing, nothing).probe({"tcpSocket": {"port": "web"}}, TARGET)
    assert (outcome.verdict, outcome.output) == ("error", 'port "web" not found')
