"""An agent that is away while its instance lives: after a while its pod is not Ready, as on a Node that is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.instances.test_links import INSTANCE
from vk_provider import rfc3339
from vk_provider.instances import links, table
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.pods import agents, controller, executor, sending
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import compute_state, is_overdue, next_look_s, note_first
from vk_provider.pods.status_patch import compute_desired, keep_transition_times

from .rig import World

GRACE_S = 40.0
LIMIT_S = 60.0
T0, T1, T2 = (f"2026-01-01T00:00:0{number}Z" for number in range(3))


class Clock:
    """The controller's clock, moved by hand. Two hours after its process began."""

    def __init__(self) -> None:
        self.now = 7200.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(controller, "time", made)
    for module in (executor, agents, sending):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made.monotonic, time=made.time))
    clock = SimpleNamespace(time=made.time, gmtime=time.gmtime, strftime=time.strftime)
    monkeypatch.setattr(rfc3339, "time", clock)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.02)
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    return made


@pytest.fixture
async def world(tmp_path: Path, clock: Clock) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    await made.start()
    yield made
    await made.stop()


def condition(world: World, pod: Json, kind: str = "Ready") -> Json:
    found: Json = next(item for item in world.api.status(pod)["conditions"] if item["type"] == kind)
    return found


async def cut(world: World, pod: Json) -> PodRecord:
    """The agent does not answer any more; the cloud says that its instance runs."""
    record = world.record(pod)
    assert record is not None
    world.connector.cut(world.live_of(pod)[0].instance_id)
    await world.until(lambda: record.session is None and record.report.silent_since)
    await world.settle()
    return record


async def pass_time(world: World, clock: Clock, record: PodRecord, seconds: float) -> None:
    """What the worker's timer does when it is due."""
    clock.now += seconds
    world.controller.wake(record.uid)
    await world.settle()


async def test_a_pod_whose_agent_is_silent_is_not_ready_until_the_agent_speaks_again(
    world: World, clock: Clock
) -> None:
    pod = await world.running()
    record = await cut(world, pod)
    patches, before = len(world.api.patches), condition(world, pod)
    timer = world.controller._workers._timers[record.uid]
    assert 0 < timer.when() - asyncio.get_running_loop().time() <= GRACE_S
    await pass_time(world, clock, record, GRACE_S - 1)
    assert condition(world, pod)["status"] == "True"
    await pass_time(world, clock, record, 2)

    ready = condition(world, pod)
    assert (ready["status"], ready["reason"]) == ("False", "AgentUnreachable")
    instance_id = world.live_of(pod)[0].instance_id
    since = rfc3339.format_time(1_800_000_000.0 + 7200.0)
    assert ready["message"] == f"the agent on instance {instance_id} is not reachable since {since}"
    assert ready["lastTransitionTime"] > before["lastTransitionTime"]
    assert (("AgentUnreachable", ready["message"])) in world.recorder.events
    assert condition(world, pod, "ContainersReady")["status"] == "True", "what the containers do is not known"
    assert (world.api.status(pod)["phase"], len(world.api.patches)) == ("Running", patches + 1)

    await pass_time(world, clock, record, 3600)
    assert len(world.api.patches) == patches + 1 and world.recorder.reasons().count("AgentUnreachable") == 1
    assert record.uid not in world.controller._workers._timers, "nobody looks again and again"

    world.connector.unreachable.clear()
    await world.until(lambda: condition(world, pod)["status"] == "True")
    await world.settle()
    again = condition(world, pod)
    assert again["lastTransitionTime"] > ready["lastTransitionTime"] and not again.get("reason")
    assert len(world.api.patches) == patches + 2
    assert world.recorder.reasons().count("AgentReachable") == 1
    assert not record.report.silent_since and record.uid not in world.controller._workers._timers

    await pass_time(world, clock, record, 3600)
    assert condition(world, pod) == again and len(world.api.patches) == patches + 2


async def test_an_agent_that_comes_back_in_time_changes_nothing(world: World, clock: Clock) -> None:
    pod = await world.running()
    patches = len(world.api.patches)
    for _ in range(5):
        record = await cut(world, pod)
        await pass_time(world, clock, record, GRACE_S / 2)
        world.connector.unreachable.clear()
        await world.until(lambda record=record: record.session is not None and not record.report.silent_since)
    await world.settle()
    assert (len(world.api.patches), world.recorder.reasons().count("AgentUnreachable")) == (patches, 0)


async def test_a_restart_gives_every_agent_the_whole_time_and_a_silent_one_is_still_noticed(
    world: World, clock: Clock
) -> None:
    pod = await world.running()
    patches = len(world.api.patches)
    await world.crash()
    clock.now += 3600
    world.connector.unreachable.add("*")
    await world.start()
    record = world.record(pod)
    assert record is not None
    await world.until(lambda: record.report.silent_since)
    await pass_time(world, clock, record, GRACE_S - 1)
    assert (condition(world, pod)["status"], len(world.api.patches)) == ("True", patches)
    await pass_time(world, clock, record, 2)
    assert condition(world, pod)["reason"] == "AgentUnreachable"
    assert world.api.patches[-1].keys() == {"conditions"} and len(world.api.patches[-1]["conditions"]) == 1

    await world.crash()
    unready = condition(world, pod)
    clock.now += 3600
    world.connector.unreachable.clear()
    await world.start()
    await world.until(lambda: condition(world, pod)["status"] == "True")
    await world.settle()
    assert condition(world, pod)["lastTransitionTime"] > unready["lastTransitionTime"]
    patches = len(world.api.patches)
    ready = condition(world, pod)

    await world.crash()
    await world.start()
    await world.until(lambda: (found := world.record(pod)) is not None and found.report.from_agent)
    await world.settle()
    assert (condition(world, pod), len(world.api.patches)) == (ready, patches), "no later start takes it back"


async def test_a_pod_that_was_not_ready_anyway_gets_only_the_event(world: World, clock: Clock) -> None:
    pod = await world.running()
    record = world.record(pod)
    assert record is not None and record.report.status is not None
    conditions = [
        {**item, "status": "False"} if item["type"] == "Ready" else item for item in record.report.status["conditions"]
    ]
    status = {**record.report.status, "conditions": conditions}
    world.controller.agents.receive(
        record, {"type": "status", "podUID": record.uid, "status": status, "finished": False}
    )
    await world.settle()
    record, patches = await cut(world, pod), len(world.api.patches)
    await pass_time(world, clock, record, GRACE_S + 1)
    assert len(world.api.patches) == patches and "AgentUnreachable" in world.recorder.reasons()


async def test_nothing_but_readiness_is_concluded_while_the_cloud_fails_too(world: World, clock: Clock) -> None:
    pod = await world.running()
    world.cloud.failures.throttled = 10**6
    record = await cut(world, pod)
    await pass_time(world, clock, record, GRACE_S + 1)
    assert condition(world, pod)["reason"] == "AgentUnreachable"
    assert (world.api.status(pod)["phase"], len(world.live_of(pod))) == ("Running", 1)
    world.cloud.failures.throttled = 0


async def test_an_instance_that_is_gone_fails_the_pod_instead(world: World, clock: Clock) -> None:
    pod = await world.running()
    record = await cut(world, pod)
    await pass_time(world, clock, record, GRACE_S + 1)
    world.cloud.vanish(world.live_of(pod)[0].instance_id)
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert (condition(world, pod)["status"], condition(world, pod)["reason"]) == ("False", "PodFailed")


async def test_a_pod_that_only_boots_is_not_called_silent(world: World, clock: Clock) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    record = world.record(pod)
    assert record is not None
    await pass_time(world, clock, record, 50)
    assert "AgentUnreachable" not in world.recorder.reasons()


# --- the clock, as a table ---------------------------------------------------------------------------------------


def lost(**changes: Any) -> PodRecord:
    """A Running pod whose session broke at 100."""
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": T0}]}
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [], "terminationGracePeriodSeconds": 30},
        "status": status,
    }
    record = PodRecord("u", "n", pod, **{name: value for name, value in changes.items() if name == "ending_since"})
    record.assignment.take(OwnedInstance(INSTANCE))
    record.admission.admit()
    record.publication.held = status
    record.report.fall_silent(100.0)
    for name in ("not_ready", "finished"):
        if name in changes:
            setattr(record.report, name, changes[name])
    if "session" in changes:
        connect(record, changes["session"])
    note_first(record)
    return record


def connect(record: PodRecord, session: Any) -> PodRecord:
    assert record.owned is not None
    record.owned.link.session = session
    return record


def deleted(record: PodRecord, grace_s: int = 10) -> PodRecord:
    record.pod["metadata"] |= {"deletionTimestamp": T0, "deletionGracePeriodSeconds": grace_s}
    return record


@pytest.mark.parametrize(("now", "silent", "next_s"), [(100.0, False, 40.0), (139.0, False, 1.0), (140.0, True, None)])
def test_silence_is_due_once_after_the_grace_period(now: float, silent: bool, next_s: float | None) -> None:
    state = compute_state(lost(), now, GRACE_S)
    assert state.agent.silent is silent
    assert next_look_s(lost(), state, now, now, GRACE_S) == next_s


def test_an_agent_that_is_connected_again_is_not_silent_yet_its_clock_runs_until_it_speaks() -> None:
    record = lost(session=object())
    assert not compute_state(record, 500.0, GRACE_S).agent.silent
    connect(record, None)
    assert compute_state(record, 500.0, GRACE_S).agent.silent


def test_a_deleted_pod_is_given_up_when_its_agent_was_away_for_longer_than_its_grace_period() -> None:
    record = deleted(lost(ending_since=200.0, not_ready=ready("False", T1)))
    overdue_at = 200.0 + 10 + LIMIT_S
    assert not is_overdue(record, overdue_at - 1) and is_overdue(record, overdue_at)
    state = compute_state(record, 200.0, GRACE_S)
    assert next_look_s(record, state, 200.0, 200.0, GRACE_S) == overdue_at - 200.0
    assert not is_overdue(connect(record, object()), overdue_at)
    connect(record, None).report.finished = True
    assert not is_overdue(record, overdue_at)


def test_a_pod_that_ended_only_in_the_api_is_given_up_likewise() -> None:
    record = lost(ending_since=50.0)
    record.pod["status"] = {**record.pod["status"], "phase": "Failed", "containerStatuses": [{"containerID": "c"}]}
    note_first(record)
    assert not is_overdue(record, 100.0 + 30 + LIMIT_S - 1) and is_overdue(record, 100.0 + 30 + LIMIT_S)


def test_a_pod_that_runs_is_never_given_up_for_its_silence() -> None:
    assert not is_overdue(lost(), 1e9)


# --- what is told ------------------------------------------------------------------------------------------------


def ready(status: str, since: str) -> Json:
    return {"type": "Ready", "status": status, "lastTransitionTime": since}


@pytest.mark.parametrize(
    ("published", "agent", "told"),
    [
        (None, ready("True", T0), T0),
        (ready("True", T0), ready("True", T0), T0),
        (ready("False", T1), ready("True", T0), "now"),
        (ready("True", T1), ready("True", T0), T1),
        (ready("True", T0), ready("False", T1), T1),
        (ready("True", T0), ready("True", T2), T2),
    ],
)
def test_a_transition_time_is_what_readers_of_the_api_saw(published: Json | None, agent: Json, told: str) -> None:
    before = {"conditions": [published]} if published else None
    (condition,) = keep_transition_times({"conditions": [agent]}, before, "now")["conditions"]
    assert condition["lastTransitionTime"] == told


def test_only_a_ready_that_is_true_is_replaced() -> None:
    unready = {**ready("False", T2), "reason": "AgentUnreachable"}
    of_containers = {**ready("True", T0), "type": "ContainersReady"}
    status = {"phase": "Running", "conditions": [ready("True", T0), of_containers]}
    assert compute_desired(status, None, unready)["conditions"] == [unready, of_containers]
    status["conditions"] = [ready("False", T0)]
    assert compute_desired(status, None, unready)["conditions"] == [ready("False", T0)]


def test_a_terminal_phase_that_the_pod_had_at_first_is_never_left() -> None:
    ended = {"phase": "Failed", "reason": "Odd"}
    assert compute_desired({"phase": "Running"}, ended, None) == {"phase": "Failed", "reason": "Odd"}
    (of_pod,) = compute_desired({"phase": "Running", "conditions": [ready("True", T0)]}, ended, None)["conditions"]
    assert (of_pod["status"], of_pod["reason"]) == ("False", "PodFailed")
    assert compute_desired({"phase": "Failed", "reason": "Own"}, ended, None)["reason"] == "Own"
    assert compute_desired({"phase": "Succeeded"}, None, None)["phase"] == "Succeeded"
