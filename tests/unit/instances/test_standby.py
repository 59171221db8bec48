"""Stopped pools: instances that have booted once, are stopped while nobody has them, and are started for pods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.instances.pooled import filled, hurry, make_world, run_pod, status_of, value
from tests.unit.pods.rig import World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import TAG_POOL, InstancePage, InstanceState, StateResult
from vk_provider.cloud.codes import build_error
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import CapacityError, CloudError, CloudThrottledError
from vk_provider.instances import filling, shortages, standby
from vk_provider.instances.instance import OwnedInstance, Rest, Stage
from vk_provider.settings import BudgetSettings, PoolSettings
from vk_provider.settings.budget import NamespaceQuota

SMALL = PoolSettings("small", cpu="1", memory="256Mi", count=2, state="stopped")
RUNNING = replace(SMALL, state="running")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(filling, "SETTLE_S", 0.05)
    monkeypatch.setattr(standby, "WINDOW_S", 0.02)
    monkeypatch.setattr(standby, "LOOK_S", 0.05)
    monkeypatch.setattr(standby, "AGAIN_FIRST_S", 0.05)


def resting(world: World) -> list[OwnedInstance]:
    """Those that a pod may start."""
    return [each for each in world.room.supply.unclaimed.values() if each.rest is Rest.STOPPED]


async def rested(world: World, count: int = 2) -> set[str]:
    await world.until(lambda: len(resting(world)) == count)
    found = {each.instance_id for each in resting(world)}
    assert all(world.cloud._instances[each].state is InstanceState.STOPPED for each in found)
    return found


class Starts:
    """Watches the calls that start instances; `problem` is the result of each ID, or raised when `of_call`. With
    `carried_out` the start is made all the same."""

    def __init__(self, world: World, verb: str = "start_instances") -> None:
        self._original = getattr(world.cloud, verb)
        self.calls: list[list[str]] = []
        self.problem: CloudError | None = None
        self.of_call = self.carried_out = False
        self.gate: asyncio.Event | None = None
        setattr(world.cloud, verb, self._call)

    async def _call(self, instance_ids: Sequence[str]) -> list[StateResult]:
        self.calls.append(list(instance_ids))
        if self.gate is not None:
            await self.gate.wait()
        if self.problem is None or self.carried_out:
            results: list[StateResult] = await self._original(instance_ids)
            if self.problem is None:
                return results
        if self.of_call:
            raise self.problem
        return [self.problem] * len(instance_ids)


async def test_instances_are_stopped_once_they_are_idle_and_cost_nothing_then(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    await rested(world)
    assert len(world.live()) == 2 and world.room.meter.usage().instances == 0
    assert [value(world, "vk_pool_instances", pool="small", state=each) for each in ("wanted", "stopped", "ready")] == [
        2,
        2,
        0,
    ]
    assert value(world, "vk_pool_idle_usd_per_hour", pool="small") == 0
    assert value(world, "vk_instances", stage="stopped") == 2
    sweep = make_sweep(world)
    assert await sweep.sweep() == await sweep.sweep() == await sweep.sweep() == []
    assert not world.connector.forgotten, "the key that its agent has shown stays pinned"
    await world.stop()


async def test_pods_that_come_together_start_theirs_with_one_call_and_they_are_replaced(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    journals = {each: world.connector._agents[each] for each in known}
    pods = [world.api.add(world.pod()) for _ in range(2)]
    await world.until(lambda: all(status_of(world, pod) == "Running" for pod in pods))
    assert {instance.instance_id for pod in pods for instance in world.live_of(pod)} == known
    assert [set(call) for call in starts.calls] == [known]
    assert {each: world.connector._agents[each] for each in known} == journals, "the same disk"
    assert len([1 for _, text in world.recorder.events if "Started one from the pool small" in text]) == 2
    assert value(world, "vk_pool_hits_total", pool="small") == 2
    assert world.room.meter.usage("default").instances == 2
    assert not known & await rested(world)
    await world.stop()


async def test_one_that_runs_is_taken_before_one_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(tmp_path, SMALL)
    await rested(world)
    monkeypatch.setattr(filling, "SETTLE_S", 60.0)
    starts = Starts(world)
    await run_pod(world)
    await filled(world, 1)
    pod = await run_pod(world)
    assert len(starts.calls) == 1 and status_of(world, pod) == "Running"
    await world.stop()


@pytest.mark.parametrize(
    ("problem", "of_call"),
    [
        (CapacityError("InsufficientInstanceCapacity: none now"), False),
        (CloudThrottledError("RequestLimitExceeded: slower"), True),
        (CloudError("InternalError: perhaps"), True),
        (build_error("UnauthorizedOperation", "no"), False),
    ],
    ids=["capacity", "throttled", "no answer", "not allowed"],
)
async def test_a_pod_whose_start_fails_is_launched_for_and_the_instance_stays(
    tmp_path: Path, problem: CloudError, of_call: bool
) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    starts.problem, starts.of_call = problem, of_call
    pods = [await run_pod(world) for _ in range(2)]
    for pod in pods:
        (instance,) = world.live_of(pod)
        assert instance.instance_id not in known and TAG_POOL not in instance.tags
    assert [text for _, text in world.recorder.events if "another one is launched" in text]
    assert value(world, "vk_pool_hits_total", pool="small") is None
    assert await rested(world) == known and len(world.live()) == 4
    starts.problem = None
    await world.stop()


async def test_a_start_that_was_carried_out_without_an_answer_is_found_by_a_listing(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    starts.problem, starts.of_call, starts.carried_out = CloudError("InternalError: perhaps"), True, True
    pod = await run_pod(world)
    assert world.live_of(pod)[0].instance_id not in known
    starts.problem = None
    await world.until(lambda: len(resting(world)) == 2)
    assert await rested(world) == known, "it was stopped again"
    assert len(world.live()) == 3 and world.room.meter.usage().instances == 1
    await world.stop()


async def test_a_pod_whose_start_fails_while_nothing_can_be_launched_is_launched_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortages, "CAPACITY_TTL_S", 0.5)
    world = await make_world(tmp_path, SMALL)
    await rested(world)
    starts = Starts(world)
    starts.problem, starts.gate = CapacityError("InsufficientInstanceCapacity"), asyncio.Event()
    pod = world.api.add(world.pod())
    await world.until(lambda: starts.calls)
    for offering in await world.cloud.describe_offerings():
        world.room.launches.note_shortage(offering, CapacityError("InsufficientInstanceCapacity"))
    starts.gate.set()
    await world.until(lambda: status_of(world, pod) == "Running")
    await world.stop()


async def test_one_that_may_have_started_is_started_for_nobody_before_a_listing_says_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "HELD_S", 0.0)
    world = await make_world(tmp_path, replace(SMALL, count=1))
    (known,) = await rested(world, 1)
    starts = Starts(world)
    starts.problem, starts.of_call, starts.carried_out = CloudError("InternalError: perhaps"), True, True
    visible = world.cloud.list_page

    async def fails(page: str = "") -> InstancePage:
        raise CloudError("InternalError: list")

    monkeypatch.setattr(world.cloud, "list_page", fails)
    await run_pod(world)
    starts.problem = None
    await run_pod(world)
    assert not any(known in call for call in starts.calls[1:])
    answered_at = time.time()
    monkeypatch.setattr(world.cloud, "list_page", visible)
    await world.until(lambda: any(each.instance_id == known for each in resting(world)))
    span = world.room.meter.find(known)
    assert span is not None and span.since < answered_at, "its run is counted from its start on"
    await world.stop()


async def test_one_that_can_never_start_is_ended_and_replaced(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    starts.problem = build_error("IncorrectInstanceState", "it is not in a state from which it can be started")
    pod = await run_pod(world)
    assert TAG_POOL not in world.live_of(pod)[0].tags
    starts.problem = None
    assert len(known & await rested(world)) == 1
    assert len(world.live()) == 3
    await world.stop()


async def test_a_pod_that_goes_before_the_answer_leaves_its_instance_to_the_pool(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    starts.gate = asyncio.Event()
    pod = world.api.add(world.pod())
    await world.until(lambda: starts.calls)
    world.api.mark_deleting(pod)
    await world.until(lambda: not world.api.pods)
    starts.gate.set()
    await asyncio.sleep(0.05)
    assert await rested(world) == known and len(world.live()) == 2
    assert world.room.meter.usage().instances == 0
    await world.stop()


async def test_one_that_never_boots_again_is_ended_and_the_pod_gets_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.pools, world.ability, world.boot_timeout_s = (SMALL,), CloudAbility(stops=True), 0.3
    await world.start()
    known = await rested(world)
    world.connector.unreachable |= known
    pod = world.api.add(world.pod())
    await world.until(lambda: status_of(world, pod) == "Running")
    assert len([1 for _, text in world.recorder.events if "launching another instance" in text]) >= 1
    assert world.live_of(pod)[0].instance_id not in known
    await world.stop()


async def test_one_that_was_started_and_is_stopped_from_outside_fails_its_pod(tmp_path: Path) -> None:
    """Whoever has an instance is told of its end, whether it was stopped before or not."""
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    pod = await run_pod(world, restartPolicy="Never")
    (instance,) = world.live_of(pod)
    assert instance.instance_id in known
    await world.cloud.stop_instances([instance.instance_id])
    await world.until(lambda: status_of(world, pod) == "Failed")
    await world.until(lambda: world.cloud._instances[instance.instance_id].state.is_terminated)
    await world.stop()


async def test_an_idle_one_that_somebody_else_stops_is_replaced(tmp_path: Path) -> None:
    world = await make_world(tmp_path, RUNNING)
    (first, _) = await filled(world)
    await world.cloud.stop_instances([first.instance_id])
    await world.until(lambda: world.cloud._instances[first.instance_id].state.is_terminated)
    await filled(world)
    await world.stop()


# --- the provider dies ------------------------------------------------------------------------------------------------


async def test_a_restarted_provider_has_its_stopped_instances_and_launches_nothing(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    await world.crash()
    await world.start()
    assert await rested(world) == known
    pod = await run_pod(world)
    assert world.live_of(pod)[0].instance_id in known
    await world.stop()


async def test_one_that_stops_while_the_provider_dies_is_waited_for(tmp_path: Path) -> None:
    config = SimulationConfig(faults=SimulatedFaults(shutdown_s=0.4))
    world = await make_world(tmp_path, SMALL, config=config)
    await world.until(lambda: [each.state for each in world.live()] == [InstanceState.STOPPING] * 2)
    known = {each.instance_id for each in world.live()}
    await world.crash()
    await world.start()
    assert [each.stage for each in world.room.supply.unclaimed.values()] == [Stage.STOPPED] * 2
    assert await rested(world) == known and len(world.live()) == 2
    await world.stop()


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_start_whose_provider_dies_serves_the_pod_that_still_waits(tmp_path: Path, carried_out: bool) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    starts = Starts(world)
    starts.gate = asyncio.Event()
    pod = world.api.add(world.pod())
    await world.until(lambda: starts.calls)
    if carried_out:
        await starts._original(starts.calls[0])
    await world.crash()
    starts.gate.set()
    await world.start()
    await world.until(lambda: status_of(world, pod) == "Running")
    assert world.live_of(pod)[0].instance_id in known
    await rested(world)
    assert len(world.live()) == 3
    await world.stop()


@pytest.mark.parametrize(
    ("configuration", "pools"),
    [
        ("another image", (SMALL,)),
        ("", (replace(SMALL, cpu="2"),)),
        ("", (RUNNING,)),
        ("", (replace(SMALL, name="x"),)),
    ],
)
async def test_outdated_ones_are_ended_without_a_start(
    tmp_path: Path, configuration: str, pools: tuple[PoolSettings, ...]
) -> None:
    world = await make_world(tmp_path, SMALL)
    known = await rested(world)
    await world.crash()
    starts = Starts(world)
    world.configuration, world.pools = configuration, pools
    await world.start()
    await world.until(lambda: not known & {each.instance_id for each in world.live()})
    await (rested(world) if pools[0].state == "stopped" else filled(world))
    assert starts.calls == [] and len(world.live()) == 2
    await world.stop()


async def test_a_smaller_pool_leaves_the_rest_to_the_sweep(tmp_path: Path) -> None:
    world = await make_world(tmp_path, replace(SMALL, count=4))
    await rested(world, 4)
    await world.crash()
    world.pools = (SMALL,)
    await world.start()
    await rested(world, 4)
    sweep = make_sweep(world)
    assert await sweep.sweep() == []
    assert len(await sweep.sweep()) == 2
    assert len(await rested(world)) == len(world.live()) == 2
    await world.stop()


# --- stops that fail --------------------------------------------------------------------------------------------------


async def test_one_that_cannot_be_stopped_stays_ready_and_is_tried_again_later(tmp_path: Path) -> None:
    world = World(tmp_path)
    stops = Starts(world, "stop_instances")
    stops.problem = build_error("UnsupportedOperation", "no ebs root device")
    world.pools, world.ability = (SMALL,), CloudAbility(stops=True)
    await world.start()
    await world.until(lambda: stops.calls)
    before = await filled(world)
    pod = await run_pod(world)
    assert world.live_of(pod)[0].instance_id in {each.instance_id for each in before}
    (filled_pool,) = world.room.filling._members.pools.values()
    assert filled_pool.stop_at - time.monotonic() < 10.0, "one step for all of a call"
    calls = len(stops.calls)
    await asyncio.sleep(0.3)
    assert len(stops.calls) <= calls + 1, "after a pause"
    await world.stop()


async def test_a_stop_without_an_answer_is_asked_for_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    stops = Starts(world, "stop_instances")
    stops.problem, stops.of_call = CloudError("InternalError: perhaps"), True
    world.pools, world.ability = (SMALL,), CloudAbility(stops=True)
    await world.start()
    await world.until(lambda: len(stops.calls) >= 2)
    stops.problem = None
    await rested(world)
    assert len(world.live()) == 2
    await world.stop()


async def test_one_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "STUCK_S", 0.3)
    config = SimulationConfig(faults=SimulatedFaults(shutdown_s=5.0))
    world = await make_world(tmp_path, replace(SMALL, count=1), config=config)
    await world.until(lambda: len(world.live()) == 1)
    (first,) = world.live()
    await world.until(lambda: world.cloud._instances[first.instance_id].state is InstanceState.SHUTTING_DOWN)
    await world.stop()


# --- what it may cost -------------------------------------------------------------------------------------------------


async def test_stopped_ones_leave_room_in_the_budget_and_a_start_takes_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, budget=BudgetSettings(instances=2))
    world.pools, world.ability = (SMALL,), CloudAbility(stops=True)
    await world.start()
    known = await rested(world)
    pods = [world.api.add(world.pod()) for _ in range(2)]
    await world.until(lambda: all(status_of(world, pod) == "Running" for pod in pods))
    assert {instance.instance_id for pod in pods for instance in world.live_of(pod)} == known
    third = world.api.add(world.pod())
    await world.until(lambda: "BudgetExceeded" in world.recorder.reasons())
    assert len(world.live()) == 2, "neither the pod nor the pool is launched for"
    world.api.mark_deleting(pods[0])
    await world.until(lambda: status_of(world, third) == "Running")
    await world.stop()


async def test_a_start_whose_outcome_is_not_known_keeps_its_room_in_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, budget=BudgetSettings(instances=1))
    starts = Starts(world)
    starts.problem, starts.of_call, starts.carried_out = CloudError("InternalError: perhaps"), True, True
    world.pools, world.ability = (replace(SMALL, count=1),), CloudAbility(stops=True)
    await world.start()
    known = await rested(world, 1)
    launched = len(world.cloud._instances)
    pod = await run_pod(world)
    assert {each.instance_id for each in world.live_of(pod)} == known
    assert len(world.cloud._instances) == launched, "nothing was launched beside what may run"
    await world.stop()


async def test_a_namespace_at_its_quota_keeps_no_other_from_the_pool(tmp_path: Path) -> None:
    world = World(tmp_path)
    quota = {"default": NamespaceQuota(instances=1)}
    world.settings = replace(world.settings, budget=BudgetSettings(namespaces=quota))
    world.pools, world.ability = (replace(SMALL, count=1),), CloudAbility(stops=True)
    await world.start()
    await rested(world, 1)
    await run_pod(world)
    known = await rested(world, 1)
    world.api.add(world.pod())
    await world.until(lambda: "BudgetExceeded" in world.recorder.reasons())
    other = world.pod()
    other["metadata"]["namespace"] = "other"
    world.api.add(other)
    await world.until(lambda: status_of(world, other) == "Running")
    assert {each.instance_id for each in world.live_of(other)} == known
    await world.stop()


# --- what is known of them --------------------------------------------------------------------------------------------


async def test_what_a_listing_shows_of_before_a_stop_or_a_start_is_old(tmp_path: Path) -> None:
    world = await make_world(tmp_path, replace(SMALL, count=1))
    await rested(world, 1)
    (owned,) = resting(world)
    room, stopped = world.room, owned.described
    room.table.learn(owned, replace(stopped, state=InstanceState.RUNNING))
    assert owned.described is stopped
    room.table.note_start(owned)
    assert room.meter.usage().instances == 1
    room.table.learn(owned, stopped)
    assert owned.described.state is InstanceState.PENDING
    started = replace(stopped, state=InstanceState.RUNNING, launch_time=stopped.launch_time + 1.0)
    room.table.learn(owned, started)
    assert owned.described is started
    room.table.learn(owned, replace(stopped, state=InstanceState.TERMINATED))
    assert owned.described.state.is_terminated, "an end is one, whatever launch it names"
    await world.stop()
