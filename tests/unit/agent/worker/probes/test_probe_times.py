"""When probes come. probe_times_1_37.jsonl: what the prober of a kubelet 1.37.2 did, on a clock of its own.

Each line is a container with its probes, a server that answers from `up` to `down` and takes its time, and how long
after the pod the container started (`latency`, which is the phase of a kubelet's ticks). "want": the starts of its
probes, and when it counted as started, ready, not ready again and to be killed; seconds after the container's start.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.worker import timeloop
from tests.unit.agent.worker.builders import SECOND, container, observed, pod, running, sidecar
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.probes.probe import ProbeOutcome, Prober, ProbeTarget
from vk_provider.agent.worker.probes.schedule import ProbeCounter
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.jsontypes import Json

CASES = [json.loads(line) for line in Path(__file__).with_name("probe_times_1_37.jsonl").read_text().splitlines()]
MOMENT = 0.01
NAMES = {"delay": "initialDelaySeconds", "period": "periodSeconds", "failure": "failureThreshold"}


def make_probe(kind: str, told: Json) -> Json:
    probe: Json = {name: told[short] for short, name in NAMES.items()}
    return {**probe, "successThreshold": told["success"], "exec": {"command": [kind]}}


class TimedServer(Prober):
    """Answers by the clock of the loop, and keeps when it was asked."""

    def __init__(self, told: Json) -> None:
        self.told = told
        self.asked: dict[str, list[float]] = defaultdict(list)

    async def probe(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        (kind,) = probe["exec"]["command"]
        told = self.told[kind]
        now_s = asyncio.get_running_loop().time()
        self.asked[kind].append(round(now_s, 3))
        await asyncio.sleep(told["takes"])
        well = now_s >= told["up"] and (not told["down"] or now_s < told["down"])
        return ProbeOutcome("success" if well else "failure")


@dataclass
class Seen:
    asked: dict[str, list[float]] = field(default_factory=dict)
    started: float | None = None
    killed: float | None = None
    ready: float | None = None
    unready: float | None = None


async def watch(told: Json, window_s: float) -> Seen:
    """Run the probes of a container that starts now; every change of a result makes a new sync, as in the worker."""
    main = container("main", **{f"{kind}Probe": make_probe(kind, each) for kind, each in told.items()})
    record = observed(running(main, started_at_ns=int(time.time()) * SECOND))
    server, seen, changed = TimedServer(told), Seen(), asyncio.Event()
    manager = ProbeManager(server, Recorder(Outbox(), "u1"), changed.set)

    def sync() -> None:
        manager.sync(pod(main), record, "10.0.0.3", terminating=False)

    sync()
    await asyncio.sleep(0)
    sync()  # a start is published more than once
    try:
        async with asyncio.timeout_at(window_s):
            while True:
                await changed.wait()
                changed.clear()
                note(seen, manager, "main-10")
                sync()
    except TimeoutError:
        pass
    await manager.close()
    seen.asked = dict(server.asked)
    return seen


REPLAYED: dict[int, Seen] = {}


def replay(case: Json) -> Seen:
    """What happens here with the probes and the server of a recorded case; run once for all tests."""
    if id(case) not in REPLAYED:
        REPLAYED[id(case)] = timeloop.run(watch(case["probes"], case["window"]))
    return REPLAYED[id(case)]


def note(seen: Seen, manager: ProbeManager, container_id: str) -> None:
    now_s = round(asyncio.get_running_loop().time(), 3)
    results = manager.results
    if seen.started is None and results.startup.get(container_id) == "success":
        seen.started = now_s
    if seen.killed is None and "failure" in (results.startup.get(container_id), results.liveness.get(container_id)):
        seen.killed = now_s
    ready = results.readiness.get(container_id) == "success"
    if seen.ready is None and ready:
        seen.ready = now_s
    elif seen.ready is not None and seen.unready is None and not ready:
        seen.unready = now_s


@pytest.fixture(autouse=True)
def whole_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock stands at the container's start, which is where the loop's clock begins."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)


def killers(case: Json) -> list[Json]:
    return [told for kind, told in case["probes"].items() if kind != "readiness"]


def test_what_survives_its_start_on_some_kubelet_survives_here() -> None:
    checked = 0
    for case in CASES:
        if not killers(case) or any(told["down"] for told in killers(case)):
            continue
        seen, want = replay(case), case["want"]["killed"]
        checked += 1
        if want is None:
            assert seen.killed is None, case
        elif seen.killed is not None:  # or the window ended before
            assert seen.killed > want, case
    assert checked >= 30


def test_what_a_kubelet_kills_is_killed_not_much_later() -> None:
    """One period for the phase of the ticks, one for each of two probes when a start is waited for as well."""
    checked = 0
    for case in CASES:
        want = case["want"]["killed"]
        margin_s = sum(told["period"] + 1 + told["takes"] for told in killers(case))
        if want is None or want + margin_s > case["window"]:
            continue
        if not all(told["down"] or told["up"] > want + margin_s for told in killers(case)):
            continue  # a server that comes within this time may be spared
        seen = replay(case)
        checked += 1
        assert seen.killed is not None and seen.killed <= want + margin_s + MOMENT, case
    assert checked >= 10


def test_a_container_starts_at_most_a_period_later_than_on_a_kubelet() -> None:
    checked = 0
    for case in CASES:
        startup, want = case["probes"].get("startup"), case["want"]["started"]
        if startup is None or want is None:
            continue
        seen = replay(case)
        checked += 1
        assert seen.started is not None and seen.started <= want + startup["period"] + 1 + startup["takes"], case
    assert checked >= 20


def test_readiness_probes_come_exactly_when_a_kubelets_do() -> None:
    """Until a container is killed: that is another sync of the pod. How many of the syncs at a start find the
    container not ready is a race in a kubelet: probes of the same moment are one."""
    checked = 0
    for case in CASES:
        if "startup" in case["probes"] or "readiness" not in case["probes"]:
            continue
        seen, want = replay(case), case["want"]
        end_s = min(case["window"], seen.killed or case["window"], want["killed"] or case["window"])
        checked += 1
        assert before(end_s, seen.asked["readiness"]) == pytest.approx(
            before(end_s, want["probes"]["readiness"]), abs=MOMENT
        ), case
        readiness = case["probes"]["readiness"]
        if readiness["success"] > 1 and not readiness["takes"]:
            continue  # as many successes as the race gave probes
        for name in ("ready", "unready"):
            at, wanted = before(end_s, [getattr(seen, name)]), before(end_s, [want[name]])
            assert at == pytest.approx(wanted, abs=MOMENT), case
    assert checked >= 20


def before(end_s: float, times: list[float | None]) -> list[float]:
    kept: list[float] = []
    for each in times:
        if each is not None and each < end_s - MOMENT and (not kept or each > kept[-1] + MOMENT):
            kept.append(each)
    return kept


def test_readiness_begins_with_the_success_of_the_startup_probe() -> None:
    checked = 0
    for case in CASES:
        started, probes = case["want"]["started"], case["want"]["probes"]
        told = case["probes"].get("readiness")
        if started is None or told is None or told["delay"] or "readiness" not in probes:
            continue
        seen = replay(case)
        assert probes["readiness"][0] == pytest.approx(started, abs=MOMENT)
        assert seen.started is not None and seen.asked["readiness"][0] == pytest.approx(seen.started, abs=MOMENT)
        checked += 1
    assert checked >= 5


def told(period: float = 10, delay: float = 0, failure: int = 3, up: float = 0.0, takes: float = 0.0) -> Json:
    return {
        "period": period, "delay": delay, "failure": failure, "success": 1, "up": up, "down": 0, "takes": takes,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_a_server_that_needs_23_seconds_survives_the_defaults(kind: str) -> None:
    seen = timeloop.run(watch({kind: told(up=23)}, 60))
    assert seen.killed is None
    assert seen.asked[kind][:3] == [10, 20, 30]


def test_a_server_that_never_comes_is_killed_after_all_its_periods() -> None:
    assert timeloop.run(watch({"liveness": told(up=100)}, 60)).killed == 30
    assert timeloop.run(watch({"liveness": told(up=100, delay=5, failure=1)}, 60)).killed == 15


def test_liveness_waits_a_period_after_the_success_of_the_startup_probe() -> None:
    seen = timeloop.run(watch({"startup": told(period=1, up=7.5), "liveness": told(period=10)}, 60))
    assert seen.started is None and seen.killed == 3
    seen = timeloop.run(watch({"startup": told(period=1, up=7.5, failure=30), "liveness": told(period=10)}, 60))
    assert seen.started == 8
    assert seen.asked["liveness"] == [18, 28, 38, 48, 58]


def test_a_probe_that_takes_longer_than_its_period_is_followed_by_the_next_at_once() -> None:
    seen = timeloop.run(watch({"readiness": told(period=2, takes=2.5)}, 12))
    assert seen.asked["readiness"] == [0, 2.5, 5, 7.5, 10]


def test_a_container_that_is_not_ready_is_probed_with_every_sync() -> None:
    async def count() -> list[float]:
        main = container("main", readinessProbe=make_probe("readiness", told()))
        record = observed(running(main, started_at_ns=int(time.time()) * SECOND))
        server = TimedServer({"readiness": told(up=4)})
        manager = ProbeManager(server, Recorder(Outbox(), "u1"), lambda: None)
        for _ in range(7):
            manager.sync(pod(main), record, "10.0.0.3", terminating=False)
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        await manager.close()
        return server.asked["readiness"]

    assert timeloop.run(count()) == [0, 1, 2, 3, 4, 14, 24]


def test_while_a_pod_is_stopped_readiness_goes_on_and_all_probes_of_sidecars() -> None:
    async def kinds() -> set[str]:
        probes = {f"{kind}Probe": make_probe(kind, told(period=1)) for kind in ("liveness", "readiness")}
        mesh_probes = {"livenessProbe": make_probe("mesh", told(period=1))}
        main, mesh = container("main", **probes), sidecar("mesh", **mesh_probes)
        record = observed(running(main), running(mesh))
        server = TimedServer(defaultdict(told))
        manager = ProbeManager(server, Recorder(Outbox(), "u1"), lambda: None)
        manager.sync(pod(main, init=[mesh]), record, "10.0.0.3", terminating=False)
        await asyncio.sleep(3.5)
        server.asked.clear()
        manager.sync(pod(main, init=[mesh]), record, "10.0.0.3", terminating=True)
        await asyncio.sleep(3)
        await manager.close()
        return set(server.asked)

    assert timeloop.run(kinds()) == {"readiness", "mesh"}


def test_a_new_container_begins_without_failures_and_with_the_successes_of_the_one_before() -> None:
    counter = ProbeCounter(failure_threshold=2, success_threshold=3)
    assert counter.count("failure") is None
    counter.begin_container()
    assert counter.count("failure") is None and counter.count("failure") == "failure"
    assert [counter.count("success") for _ in range(3)] == [None, None, "success"]
    counter.begin_container()
    assert counter.count("success") == "success"


def test_a_restarted_container_is_given_a_whole_period_again() -> None:
    async def asked() -> dict[str, list[float]]:
        main = container("main", livenessProbe=make_probe("liveness", told(failure=2)))
        server = TimedServer({"liveness": told(up=100)})
        results: Any = None
        manager = ProbeManager(server, Recorder(Outbox(), "u1"), lambda: None)
        for created in (10, 20):
            record = observed(running(main, created=created, started_at_ns=int(time.time()) * SECOND))
            manager.sync(pod(main), record, "10.0.0.3", terminating=False)
            await asyncio.sleep(17)  # one failure of the two, then the container is another
            results = manager.results
        assert results is not None and results.liveness == {"main-20": "success"}
        await manager.close()
        return server.asked

    assert timeloop.run(asked()) == {"liveness": [10, 27]}
