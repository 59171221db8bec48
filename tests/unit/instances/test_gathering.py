"""How long demands are gathered for one call: nobody alone waits, and a burst is a few calls."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.instances.test_supply import Calls
from tests.unit.pods.rig import World
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.instances.gathering import FIRST_PAUSE_S, Gathering
from vk_provider.settings import BudgetSettings, NamespaceQuota


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def call_when_allowed(gathering: Gathering, clock: Clock, since: float) -> float:
    """When the call was made."""
    clock.now += gathering.wait_s(since)
    gathering.note_call()
    return clock.now


def test_one_pod_alone_waits_for_nobody() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(20):
        assert gathering.wait_s(clock.now) == 0.0
        gathering.note_call()
        clock.now += 1.0


def test_pods_that_keep_coming_for_ten_seconds_are_ten_calls_at_most() -> None:
    clock = Clock()
    gathering, calls = Gathering(2.0, clock), []
    while clock.now < 110.0:
        calls.append(call_when_allowed(gathering, clock, clock.now) - 100.0)
    assert len(calls) <= 10 and calls[:3] == pytest.approx([0.0, FIRST_PAUSE_S, 3 * FIRST_PAUSE_S])


def test_nobody_waits_longer_than_the_limit_however_many_groups_there_are() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    made = [call_when_allowed(gathering, clock, 100.0) for _ in range(50)]
    assert max(made) <= 102.0
    assert sum(at < 102.0 for at in made) <= 6, "the others have gathered all that came meanwhile"


def test_pods_that_come_one_after_the_other_do_not_make_each_other_wait() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(20):
        assert gathering.wait_s(clock.now) == 0.0
        gathering.note_call(is_alone=True)
        clock.now += 1.5 * FIRST_PAUSE_S


def test_the_pause_shrinks_while_it_is_quiet() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(10):
        call_when_allowed(gathering, clock, clock.now)
    clock.now += 30.0
    gathering.note_call()
    assert 0.0 < gathering.wait_s(clock.now) <= FIRST_PAUSE_S


def test_without_a_limit_nothing_is_gathered() -> None:
    gathering = Gathering(0.0)
    gathering.note_call()
    assert gathering.wait_s(0.0) == 0.0


# --- with pods and a cloud -------------------------------------------------------------------------------------------

NO_LIMIT = BudgetSettings()


async def world_with(
    directory: Path, gather_s: float, budget: BudgetSettings = NO_LIMIT, config: SimulationConfig | None = None
) -> World:
    world = World(directory, config)
    world.ability = CloudAbility(gather_s=gather_s)
    world.settings = replace(world.settings, budget=budget)
    await world.start()
    return world


@pytest.mark.parametrize("budget", [NO_LIMIT, BudgetSettings(instances=100)], ids=["no budget", "budget"])
async def test_pods_that_keep_coming_share_calls(tmp_path: Path, budget: BudgetSettings) -> None:
    world = await world_with(tmp_path, 2.0, budget, SimulationConfig(launch_latency_s=60.0))
    calls = Calls(world)
    for _ in range(40):
        world.api.add(world.pod())
        await asyncio.sleep(0.02)
    await world.until(lambda: sum(request.count for request in calls.requests) == 40)
    assert len(calls.requests) <= 8
    await world.stop()


@pytest.mark.parametrize("what", ["capacity", "room"])
async def test_a_pod_that_waits_for_something_else_makes_no_other_wait(tmp_path: Path, what: str) -> None:
    budget = BudgetSettings(namespaces={"poor": NamespaceQuota(usd_per_hour=0.000001)}) if what == "room" else NO_LIMIT
    faults = SimulatedFaults(no_capacity=("*.xlarge/*",))
    world = await world_with(tmp_path, 3.0, budget, SimulationConfig(faults=faults))
    stuck = world.pod(containers=[{"name": "c", "image": "i", "resources": {"requests": {"cpu": "5"}}}])
    if what == "room":
        stuck["metadata"]["namespace"] = "poor"
    world.api.add(stuck)
    reason = "BudgetExceeded" if what == "room" else "FailedLaunch"
    await world.until(lambda: reason in world.recorder.reasons())
    gathering = world.room.launches._gathering
    for _ in range(10):
        gathering.note_call()  # of a burst
    await world.running()
    assert gathering.wait_s(time.monotonic()) <= FIRST_PAUSE_S
    await world.stop()


async def test_a_call_that_is_full_waits_for_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.cloud.group_limit = 2
    world.ability = CloudAbility(gather_s=60.0)
    await world.start()
    calls = Calls(world)
    for _ in range(20):
        world.api.add(world.pod())
    await world.until(lambda: sum(request.count for request in calls.requests) >= 18, 10.0)
    await world.stop()
