"""What may be spent, and who is served first when it is not enough."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.instances.test_launches import Calls
from tests.unit.pods.rig import World
from vk_provider.cloud.base import Instance, InstanceState, LocalStore, MachineTraits, Offering, offering_key
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.cloud.volumes import VolumeRates, VolumeSpeed
from vk_provider.errors import CloudQuotaError
from vk_provider.instances import allotment, calls, pace, table
from vk_provider.instances.budget import Budget, Wanted, price_of
from vk_provider.instances.demand import Demand
from vk_provider.jsontypes import Json
from vk_provider.ledger.meter import Meter
from vk_provider.settings import BudgetSettings, NamespaceQuota
from vk_provider.sizing.disks import DiskPlan

DOLLAR = 1_000_000_000
GIB = 2**30


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allotment, "ROOM_S", 0.01)
    monkeypatch.setattr(table, "FAST_S", 0.01)


def budget_of(usd: float = 0.0, instances: int = 0, **quotas: NamespaceQuota) -> Budget:
    namespaces = {name.replace("each", "*"): quota for name, quota in quotas.items()}
    return Budget(BudgetSettings(usd, instances, namespaces), Meter(lambda _: None))


def wanted(uid: str, usd: float, namespace: str = "shop", priority: int = 0, since: float = 0.0) -> Wanted:
    demand = Demand(uid, namespace, uid, "n", {}, priority=priority, since=since)
    return Wanted(demand, round(usd * DOLLAR))


def names(served: list[Any]) -> list[str]:
    return [each.demand.uid for each in served]


def test_without_limits_everything_is_granted() -> None:
    budget = budget_of()
    assert not budget.is_limited
    assert names(budget.allot([wanted("a", 1e6)])[0]) == ["a"]


def test_higher_priority_first_then_age() -> None:
    budget = budget_of(2.0)
    granted, held = budget.allot(
        [wanted("young", 1, since=2.0), wanted("old", 1, since=1.0), wanted("vip", 1, "lab", 9)]
    )
    assert names(granted) == ["vip", "old"] and names(held) == ["young"]


def test_nobody_of_a_lower_priority_passes_one_that_waits_for_the_same_limit() -> None:
    budget = budget_of(2.0, shop=NamespaceQuota(1.0))
    budget.reserve("lab", 1, DOLLAR)
    pods = [wanted("big", 1.5, "lab", 5), wanted("small", 0.5, "lab", 1), wanted("peer", 0.5, "lab", 5, since=1.0)]
    granted, held = budget.allot(pods)
    assert names(granted) == ["peer"] and names(held) == ["big", "small"]
    assert "pods of a higher priority wait" in held[1].message


def test_a_pod_that_can_never_fit_is_in_nobodys_way() -> None:
    granted, held = budget_of(2.0).allot([wanted("huge", 3, priority=9), wanted("small", 1)])
    assert names(granted) == ["small"] and names(held) == ["huge"]
    assert "can never fit" in held[0].message


def test_a_namespace_that_is_full_holds_nobody_else_back() -> None:
    budget = budget_of(shop=NamespaceQuota(instances=1), each=NamespaceQuota(usd_per_hour=1.0))
    pods = [wanted("s1", 1), wanted("s2", 1, since=1.0), wanted("l1", 1, "lab"), wanted("l2", 1, "lab", since=1.0)]
    granted, held = budget.allot([*pods, wanted("o", 1, "other")])
    assert sorted(names(granted)) == ["l1", "o", "s1"]
    messages = {each.demand.uid: (each.key, each.message) for each in held}
    assert messages["s2"][0] == "budget.namespaces.shop.instances"
    assert "1 of at most 1 for the instances of namespace shop" in messages["s2"][1]
    assert messages["l2"][0] == "budget.namespaces.*.usd_per_hour"
    assert "cost $1.0000 of at most $1.0000 an hour" in messages["l2"][1]


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.sampled_from("ab"), st.integers(0, 3)), max_size=40),
    st.floats(0.1, 10),
    st.integers(1, 10),
    st.floats(0.1, 5),
)
def test_what_is_granted_never_exceeds_a_limit_and_nothing_that_fits_first_is_held(
    pods: list[tuple[float, str, int]], usd: float, instances: int, quota: float
) -> None:
    budget = budget_of(usd, instances, a=NamespaceQuota(quota))
    asked = [wanted(f"{n:02}", price, space, priority) for n, (price, space, priority) in enumerate(pods)]
    granted, held = budget.allot(asked)
    assert sorted(names(granted) + names(held)) == sorted(each.demand.uid for each in asked)
    assert sum(each.nanos for each in granted) <= round(usd * DOLLAR) and len(granted) <= instances
    assert sum(each.nanos for each in granted if each.demand.namespace == "a") <= round(quota * DOLLAR)
    if held and not granted:
        first = min(asked, key=lambda each: each.demand.rank)
        room = min(usd, quota) if first.demand.namespace == "a" else usd
        assert first.nanos > round(room * DOLLAR)


def offering(price: float) -> Offering:
    return Offering("t", f"z{price}", "spot", "amd64", 1, 1, price)


def test_a_call_may_bring_what_there_is_room_for_and_no_more() -> None:
    budget = budget_of(10.0)
    offerings, disks = [offering(price) for price in (1.0, 2.0, 3.0, 9.0)], DiskPlan(20 * 2**30)
    first = budget.reserve("shop", 2, DOLLAR)
    second = budget.reserve("shop", 1, DOLLAR)
    assert [each.price_per_hour for each in budget.widen(first, offerings, disks)] == [1.0, 2.0, 3.0]
    assert [each.price_per_hour for each in budget.widen(second, offerings, disks)] == [1.0, 2.0, 3.0]
    third = budget.reserve("shop", 1, DOLLAR)
    assert [each.price_per_hour for each in budget.widen(third, offerings, disks)] == [1.0]
    for each in (first, second, third):
        budget.release(each)
    assert len(budget.allot([wanted(str(n), 1) for n in range(20)])[0]) == 10


def test_what_a_call_may_bring_is_counted_with_its_root_disk() -> None:
    traits = MachineTraits(root_price_per_gib=0.01, store_bytes=100 * GIB)
    plain = replace(offering(1.0), traits=replace(traits, store_bytes=0))
    stored = replace(offering(1.1), traits=traits)
    disks = DiskPlan(50 * GIB, LocalStore(100 * GIB, 20 * GIB))
    assert price_of(plain, disks) == round(1.5 * DOLLAR) and price_of(stored, disks) == round(1.3 * DOLLAR)
    budget = budget_of(1.4)
    reservation = budget.reserve("shop", 1, price_of(stored, disks))
    assert budget.widen(reservation, [stored, plain], disks) == (stored,) and reservation.nanos == round(1.3 * DOLLAR)


def test_the_disks_of_stopped_instances_take_room() -> None:
    budget = budget_of(1.0)
    stopped = Instance("i-1", InstanceState.STOPPED, "t", "z", "on-demand", "amd64", "", "", 1.0, ended_at=2.0)
    budget._meter.prices.disk_price_of = lambda instance: 0.25
    budget._meter.see(stopped)
    assert names(budget.allot([wanted("a", 0.8)])[0]) == [] and names(budget.allot([wanted("a", 0.75)])[0]) == ["a"]
    assert budget.price_of_owned("i-1", offering(1.0)) == round(1.25 * DOLLAR)
    for price, has_room in ((0.75, True), (0.8, False)):  # its disks are in the bill before it starts
        nanos = budget.price_of_owned("i-1", offering(price))
        assert budget.has_room("shop", nanos, counted_nanos=DOLLAR // 4) is has_room
    budget._meter.ended("i-1")
    assert names(budget.allot([wanted("a", 1.0)])[0]) == ["a"]


def test_a_start_reserves_no_disks_that_are_counted_already() -> None:
    budget = budget_of(1.25, shop=NamespaceQuota(1.25, 9))
    stopped = Instance("i-1", InstanceState.STOPPED, "t", "z", "on-demand", "amd64", "", "", 1.0, ended_at=2.0)
    budget._meter.prices.disk_price_of = lambda instance: 0.25
    budget._meter.see(stopped)
    nanos = budget.price_of_owned("i-1", offering(0.5))
    reservation = budget.reserve("shop", 1, nanos, DOLLAR // 4)
    assert names(budget.allot([wanted("a", 0.5, "lab")])[0]) == ["a"], "0.25 + 0.5 are spent of 1.25"
    assert names(budget.allot([wanted("a", 0.51, "lab")])[0]) == []
    assert names(budget.allot([wanted("a", 0.51)])[0]) == [], "of the namespace's, the disks are, too"
    budget.release(reservation)
    assert names(budget.allot([wanted("a", 1.0, "lab")])[0]) == ["a"]


def test_what_is_counted_already_stays_so_when_its_reservation_is_widened() -> None:
    budget = budget_of(2.0)
    reservation = budget.reserve("shop", 1, DOLLAR, DOLLAR // 4)
    assert len(budget.widen(reservation, [offering(1.0), offering(1.5)], DiskPlan(GIB))) == 2
    assert budget.has_room("lab", round(0.75 * DOLLAR)) and not budget.has_room("lab", round(0.76 * DOLLAR))
    budget.release(reservation)
    assert budget.has_room("lab", 2 * DOLLAR)


def test_what_disks_cost_beyond_their_size_and_a_stores_disk_are_in_what_is_reserved() -> None:
    rates = VolumeRates(0.001, 0.01, VolumeSpeed(3000, 125), VolumeSpeed(3000, 125), 500, 0.2)
    fast = replace(offering(1.0), traits=MachineTraits(root_price_per_gib=0.01, volume_rates=rates))
    assert price_of(fast, DiskPlan(10 * GIB)) == round(1.1 * DOLLAR)
    assert price_of(fast, DiskPlan(10 * GIB), has_store=True) == round(1.3 * DOLLAR)
    asked = DiskPlan(10 * GIB, asked=VolumeSpeed(10_000, 135))
    assert price_of(fast, asked) == round((1.0 + 20 * 0.01 + 7 + 0.1) * DOLLAR), "so many IOPS need 20 GiB"
    budget = budget_of(1.2)
    reservation = budget.reserve("shop", 1, 0)
    assert budget.widen(reservation, [fast], DiskPlan(10 * GIB), has_store=True) == ()


def test_limits_are_told_as_a_metric() -> None:
    budget = budget_of(5.0, shop=NamespaceQuota(1.5, 3))
    assert budget.limits() == {("", "usd_per_hour"): 5.0, ("shop", "usd_per_hour"): 1.5, ("shop", "instances"): 3.0}


# --- with pods and a cloud -------------------------------------------------------------------------------------------


async def world_with(directory: Path, config: SimulationConfig | None = None, **limits: Any) -> World:
    world = World(directory, config)
    world.settings = replace(world.settings, budget=BudgetSettings(**limits))
    await world.start()
    return world


def phase(world: World, pod: Json) -> str:
    if ("default", pod["metadata"]["name"]) not in world.api.pods:
        return ""
    return str(world.api.status(pod).get("phase"))


def running(world: World, pods: list[Json]) -> list[int]:
    return [number for number, pod in enumerate(pods) if phase(world, pod) == "Running"]


async def test_a_pod_beyond_the_limit_waits_and_runs_when_there_is_room(tmp_path: Path) -> None:
    world = await world_with(tmp_path, instances=2)
    calls = Calls(world)
    pods = [world.api.add(world.pod()) for _ in range(4)]
    await world.until(lambda: len(running(world, pods)) == 2)
    await world.until(lambda: world.recorder.reasons().count("BudgetExceeded") == 2)
    (message, *_) = [text for reason, text in world.recorder.events if reason == "BudgetExceeded"]
    assert "of at most 2 for all instances (budget.instances)" in message
    await asyncio.sleep(0.1)
    assert len(world.live()) == 2 and sum(request.count for request in calls.requests) == 2
    assert len(world.room.launches.allotment.held) == 2
    first = running(world, pods)[0]
    world.api.mark_deleting(pods[first], 0)
    await world.until(lambda: len(running(world, [p for n, p in enumerate(pods) if n != first])) == 2)
    assert world.recorder.reasons().count("BudgetExceeded") == 2, "each is told once"
    assert len(world.live()) == 2 and len(world.room.launches.allotment.held) == 1
    await world.stop()


async def test_who_has_a_higher_priority_is_served_first_in_the_same_burst_and_later(tmp_path: Path) -> None:
    world = await world_with(tmp_path, instances=2)
    pods = [world.api.add(world.pod(priority=priority)) for priority in (0, 0, 5, 5, 9)]
    await world.until(lambda: len(running(world, pods)) == 2)
    served = running(world, pods)
    assert 4 in served and set(served) <= {2, 3, 4}
    world.api.mark_deleting(pods[4], 0)
    await world.until(lambda: {2, 3} <= set(running(world, pods)))
    await world.stop()


async def test_a_pod_that_goes_away_leaves_no_debt(tmp_path: Path) -> None:
    world = await world_with(tmp_path, instances=1)
    pods = [world.api.add(world.pod()) for _ in range(3)]
    await world.until(lambda: len(running(world, pods)) == 1)
    for pod in pods:
        world.api.mark_deleting(pod, 0)
    await world.until(lambda: not world.controller.records and world.room.meter.usage().instances == 0)
    assert len(world.room.launches.allotment.held) == 0
    last = world.api.add(world.pod())
    await world.until(lambda: phase(world, last) == "Running")
    await world.stop()


async def test_a_failed_launch_gives_its_reservation_back(tmp_path: Path) -> None:
    world = await world_with(tmp_path, instances=1)
    calls = Calls(world)
    calls.refusal = CloudQuotaError("InstanceLimitExceeded: one too many")
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    calls.refusal = None
    await world.until(lambda: phase(world, pod) == "Running")
    assert not world.room.launches.budget._reserved.all.instances
    await world.stop()


async def test_a_launch_whose_answer_is_lost_counts_until_its_outcome_is_known(tmp_path: Path) -> None:
    world = await world_with(tmp_path, instances=1)
    calls = Calls(world)
    calls.lost = 1
    pods = [world.api.add(world.pod(priority=priority)) for priority in (1, 0)]
    await world.until(lambda: phase(world, pods[0]) == "Running")
    await asyncio.sleep(0.1)
    assert len(world.live()) == 1 and phase(world, pods[1]) == "Pending"
    await world.stop()


async def test_limits_in_usd_hold_at_every_moment_while_pods_come_and_go_and_calls_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(calls, "RETRY_MAX_S", 0.1)
    faults = SimulatedFaults(seed=5, call_burst=20, call_rate=200.0, lost_answers=0.1)
    limit, quota = 0.30, 0.15  # six of those that fit
    namespaces = {"default": NamespaceQuota(usd_per_hour=quota)}
    world = await world_with(tmp_path, SimulationConfig(faults=faults), usd_per_hour=limit, namespaces=namespaces)
    rng, pods = random.Random(5), list[Json]()
    prices = {offering_key(each): each.price_per_hour for each in await world.cloud.describe_offerings()}

    def check() -> None:
        spent = sum(prices[(each.instance_type, each.zone, each.capacity_type)] for each in world.live())
        assert spent <= quota * (1 + 1e-9), "default is the only namespace"

    for _ in range(60):
        if pods and rng.random() < 0.2:
            world.api.mark_deleting(pods.pop(rng.randrange(len(pods))), 0)
        else:
            pods.append(world.api.add(world.pod(priority=rng.randrange(3))))
        await asyncio.sleep(0.01)
        check()
    for pod in pods[3:]:
        world.api.mark_deleting(pod, 0)
    await world.until(lambda: len(running(world, pods[:3])) == 3 and not world.room.launches.allotment.held)
    check()
    assert "BudgetExceeded" in world.recorder.reasons(), "the limit was met"
    served = Counter(pod for each in world.live() for pod in [each.tags.get("vk-provider/pod-uid", each.instance_id)])
    assert max(served.values()) == 1
    await world.stop()
