"""A burstable type has one price: in the choice, the event, the limits, the bill, and from the tags alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.unit.instances.pooled import filled, hurry, run_pod, value
from tests.unit.instances.test_budget import running
from tests.unit.pods.rig import NODE, World
from vk_provider.bills import Bills
from vk_provider.cloud.base import TAG_POD_UID, TAG_STEADY_CPU, MachineTraits, Offering, offering_key
from vk_provider.ledger.ledger import Ledger, answer_from_tags
from vk_provider.ledger.question import parse_question
from vk_provider.settings import BudgetSettings, PoolSettings

GIB = 2**30
BURSTABLE = Offering(
    "t3.small",
    "z-a",
    "on-demand",
    "amd64",
    2000,
    2 * GIB,
    0.02,
    traits=MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05),
)
PLAIN = Offering("m7i.large", "z-a", "on-demand", "amd64", 2000, 8 * GIB, 0.12)
PRICE = 0.05
"""Of the burstable one for a pod that asks for a whole CPU: 0.02 and 0.6 CPU above the baseline."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def world_with(directory: Path, *pools: PoolSettings, **limits: float) -> World:
    world = World(directory)
    world.cloud._offerings = [BURSTABLE, PLAIN]
    world.cloud._by_key = {offering_key(each): each for each in world.cloud._offerings}
    world.pools = pools
    world.settings = replace(world.settings, budget=BudgetSettings(**limits))
    await world.start()
    return world


def prices(world: World) -> list[float]:
    """What `vk-provider instances` shows."""
    bills = Bills(world.room, cast("Ledger", None), world.controller.records, ())
    return [cast("float", row["usdPerHour"]) for row in bills.instances(NODE)]


def from_tags(world: World) -> float:
    """USD an hour, of all, by what the cloud says alone."""
    room, instances = world.room, world.live()
    now = max(each.launch_time for each in instances) + 3600.0
    question = parse_question({"since": "2h"}, now)
    answer = answer_from_tags(instances, room.price_of, question, now, terms=room.meter.prices.terms)
    return answer["total"]["usd"]


async def test_the_price_of_the_choice_is_in_the_event_the_bill_and_the_tags_also_after_a_restart(
    tmp_path: Path,
) -> None:
    world = await world_with(tmp_path)
    await world.running()
    (message,) = [text for _, text in world.recorder.events if "Selected t3.small" in text]
    assert "at $0.0500 per hour (of which $0.0300 for CPU above its baseline)" in message
    for _ in range(2):
        assert prices(world) == [pytest.approx(PRICE)]
        assert world.room.meter.usage().nanos == 50_000_000
        (span,) = world.room.meter.running()
        assert (span.price_nanos, span.burst_nanos) == (50_000_000, 30_000_000)
        assert from_tags(world) == pytest.approx(PRICE, rel=1e-3)
        await world.crash()
        await world.start()  # with no ledger but the tags
    await world.stop()


async def test_a_limit_counts_the_price_of_the_choice(tmp_path: Path) -> None:
    world = await world_with(tmp_path, usd_per_hour=0.12)
    pods = [world.api.add(world.pod()) for _ in range(4)]
    await world.until(lambda: world.recorder.reasons().count("BudgetExceeded") == 2)
    await world.until(lambda: len(running(world, pods)) == 2)
    assert world.room.meter.usage().nanos == 100_000_000 and len(world.live()) == 2
    (text, _) = [text for reason, text in world.recorder.events if reason == "BudgetExceeded"]
    assert "an instance for $0.0500 an hour is needed" in text
    await world.stop()


async def test_an_instance_of_a_pool_costs_what_its_pod_needs_once_it_has_one(tmp_path: Path) -> None:
    world = await world_with(tmp_path, PoolSettings("small", instance_type="t3.small", count=1, price_factor=1.0))
    await filled(world, 1)
    assert world.room.meter.usage().nanos == 20_000_000 and value(world, "vk_pool_idle_usd_per_hour", pool="small")
    pod = await run_pod(world)
    (instance,) = world.live_of(pod)
    (message,) = [text for _, text in world.recorder.events if "from the pool small" in text]
    assert "at $0.0500 per hour" in message
    for _ in range(2):
        assert world.room.meter.usage("default").nanos == 50_000_000
        (mine,) = [each for each in world.live() if each.tags.get(TAG_POD_UID) == pod["metadata"]["uid"]]
        assert mine.tags[TAG_STEADY_CPU] == "1000" and mine.instance_id == instance.instance_id
        assert world.room.price_of(mine) == pytest.approx(PRICE)
        await world.crash()
        await world.start()
        await world.room.table.refresh()
    await world.stop()


async def test_a_pod_within_a_pools_quota_counts_what_it_needs_of_the_instance(tmp_path: Path) -> None:
    pool = PoolSettings("small", instance_type="t3.small", count=1)
    world = await world_with(tmp_path, pool)
    await filled(world, 1)
    demand_price = world.room.launches.budget.price_of_owned(world.live()[0].instance_id, BURSTABLE, 1000)
    assert demand_price == 50_000_000
    await world.stop()


async def test_a_pod_below_the_baseline_costs_no_more_and_other_types_have_no_such_tag(tmp_path: Path) -> None:
    world = await world_with(tmp_path)
    small = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "300m"}}}]
    pod = await world.running(containers=small)
    assert world.room.meter.usage().nanos == 20_000_000
    assert world.live_of(pod)[0].tags[TAG_STEADY_CPU] == "300"
    world.cloud._offerings = [PLAIN]
    await world.crash()
    await world.start()
    plain = await world.running()
    assert world.live_of(plain)[0].instance_type == "m7i.large"
    assert TAG_STEADY_CPU not in world.live_of(plain)[0].tags
    await world.stop()
