"""Pools: instances that are ready before a pod asks, for any namespace, and nobody's until one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.instances.pooled import filled, hurry, idle, make_world, run_pod, status_of, value
from tests.unit.pods.rig import MASTER, World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.agentclient.grants import Grants
from vk_provider.cloud.base import (
    TAG_LAUNCH,
    TAG_POD_NAMESPACE,
    TAG_POD_UID,
    TAG_POOL,
    LaunchAnswer,
    LaunchRequest,
)
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import BadStartError, CloudThrottledError
from vk_provider.instances import filling, members, pool, tagging
from vk_provider.settings import BudgetSettings, PoolSettings

SMALL = PoolSettings("small", cpu="1", memory="256Mi", count=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_pool_is_filled_with_launches_of_one_and_no_two_have_the_same_secret(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    instances = await filled(world)
    assert len({each.tags[TAG_LAUNCH] for each in instances}) == 2
    assert all(each.tags[TAG_POOL] == "small" and TAG_POD_NAMESPACE not in each.tags for each in instances)
    assert value(world, "vk_pool_instances", pool="small", state="ready") == 2
    assert value(world, "vk_pool_instances", pool="small", state="wanted") == 2
    price = value(world, "vk_pool_idle_usd_per_hour", pool="small")
    offerings = {each.instance_type: each.price_per_hour for each in await world.cloud.describe_offerings()}
    assert price is not None and 0 < price <= 2 * max(offerings.values())
    await world.stop()


async def test_pods_of_any_namespace_take_one_and_it_is_replaced(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    before = {each.instance_id for each in await filled(world)}
    pods = [await run_pod(world, namespace) for namespace in ("one", "two")]
    taken = {instance.instance_id for pod in pods for instance in world.live_of(pod)}
    assert taken == before
    assert [text for reason, text in world.recorder.events if "from the pool small" in text]
    await filled(world)
    assert value(world, "vk_pool_hits_total", pool="small") == 2
    await world.until(
        lambda: (
            {each.tags.get(TAG_POD_NAMESPACE) for each in world.live() if each.instance_id in taken} == {"one", "two"}
        )
    )
    await world.stop()


@pytest.mark.parametrize(("limit_s", "instances"), [(60.0, 2), (0.0, 4)])
async def test_none_is_launched_anew_while_pods_follow_each_other_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_s: float, instances: int
) -> None:
    monkeypatch.setattr(pool, "QUIET_S", 60.0)
    monkeypatch.setattr(pool, "QUIET_LIMIT_S", limit_s)
    world = await make_world(tmp_path, SMALL)
    await filled(world)
    for _ in range(2):
        await run_pod(world)
    await asyncio.sleep(0.1)
    await world.until(lambda: len(world.live()) == instances)
    await world.stop()


async def test_a_pod_that_finds_none_ready_is_launched_for_and_the_miss_is_counted(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    await filled(world)
    pods = [world.api.add(world.pod()) for _ in range(4)]
    await world.until(lambda: all(status_of(world, pod) == "Running" for pod in pods))
    assert value(world, "vk_pool_hits_total", pool="small") == 2
    assert value(world, "vk_pool_misses_total", pool="small") == 2
    await filled(world)
    await world.stop()


async def test_a_pod_that_does_not_fit_takes_none_and_is_no_miss(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    before = await filled(world)
    large = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}]
    await run_pod(world, containers=large)
    tiny = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]
    await run_pod(world, containers=tiny)
    assert idle(world) == before, "four times the price of its own choice is too much"
    assert value(world, "vk_pool_misses_total", pool="small") is None
    await world.stop()


async def test_the_cheapest_that_fits_is_taken_of_all_pools_of_the_node(tmp_path: Path) -> None:
    large = PoolSettings("large", cpu="2", memory="256Mi", count=1, price_factor=50.0)
    world = await make_world(tmp_path, large, SMALL)
    await filled(world)
    await filled(world, 1, "large")
    pod = await run_pod(world)
    assert world.live_of(pod)[0].tags[TAG_POOL] == "small"
    two = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}}]
    pod = await run_pod(world, containers=two)
    assert world.live_of(pod)[0].tags[TAG_POOL] == "large"
    await world.stop()


@pytest.mark.parametrize("budget", [BudgetSettings(), BudgetSettings(instances=10)], ids=["no budget", "budget"])
async def test_pods_are_launched_for_before_a_pool_is_filled(tmp_path: Path, budget: BudgetSettings) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, budget=budget)
    world.pools = (SMALL,)
    calls: list[LaunchRequest] = []
    original, refuse = world.cloud.launch, 1

    async def launch(request: LaunchRequest) -> LaunchAnswer:
        nonlocal refuse
        if refuse:
            refuse -= 1
            raise CloudThrottledError("RequestLimitExceeded: slower")
        calls.append(request)
        return await original(request)

    world.cloud.launch = launch
    pods = [world.api.add(world.pod()) for _ in range(3)]
    await world.start()
    await world.until(lambda: all(status_of(world, pod) == "Running" for pod in pods))
    await filled(world)
    assert [TAG_POOL in call.tags for call in calls] == [False, True, True]
    await world.stop()


async def test_what_gets_ready_goes_to_a_pod_that_the_cloud_has_no_room_for(tmp_path: Path) -> None:
    config = SimulationConfig(faults=SimulatedFaults(max_instances=1), boot_latency_s=0.2)
    world = World(tmp_path, config)
    world.pools = (PoolSettings("small", cpu="1", memory="256Mi", count=1),)
    await world.start()
    await world.until(lambda: len(world.live()) == 1)
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    await world.until(lambda: status_of(world, pod) == "Running")
    assert world.live_of(pod)[0].tags[TAG_POOL] == "small"
    await world.stop()


async def test_what_gets_ready_during_a_pods_own_call_goes_to_it_when_the_call_brings_nothing(tmp_path: Path) -> None:
    config = SimulationConfig(faults=SimulatedFaults(max_instances=1), launch_latency_s=0.8, boot_latency_s=0.1)
    world = World(tmp_path, config)
    world.pools = (PoolSettings("small", cpu="1", memory="256Mi", count=1),)
    await world.start()
    await world.until(lambda: len(world.live()) == 1)
    pod = world.api.add(world.pod())
    await world.until(lambda: any(owned.is_idle for owned in world.room.table.owned.values()))
    assert "FailedLaunch" not in world.recorder.reasons(), "the pod's call had ended already"
    await world.until(lambda: status_of(world, pod) == "Running")
    assert world.live_of(pod)[0].tags[TAG_POOL] == "small"
    await world.stop()


async def test_a_restarted_provider_has_its_pools_and_launches_nothing(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    before = {each.instance_id for each in await filled(world)}
    await world.crash()
    await world.start()
    assert {each.instance_id for each in await filled(world)} == before
    await asyncio.sleep(0.1)
    assert {each.instance_id for each in world.live()} == before
    pod = await run_pod(world)
    assert world.live_of(pod)[0].instance_id in before
    await world.stop()


async def test_a_pod_that_was_given_one_is_adopted_by_its_agents_grant_alone(tmp_path: Path) -> None:
    """Neither a tag nor the pod's status says yet that the instance is its."""
    world = await make_world(tmp_path, SMALL)
    await filled(world)

    async def lag_behind(instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """No listing shows the tags yet."""

    world.cloud.create_tags = lag_behind
    pod = await run_pod(world)
    (instance,) = world.live_of(pod)
    await world.crash()
    world.api.pods[("default", pod["metadata"]["name"])]["status"] = {"phase": "Pending"}
    await world.start()
    await world.until(lambda: (record := world.record(pod)) is not None and record.owned is not None)
    record = world.record(pod)
    assert record is not None and record.instance is not None and record.instance.instance_id == instance.instance_id
    assert sum(agent.uid == pod["metadata"]["uid"] for agent in world.connector._agents.values()) == 1
    await world.stop()


async def test_an_instance_cannot_claim_a_pod_that_it_was_not_given(tmp_path: Path) -> None:
    """Who controls an instance of a pool, in any namespace, names the pod of another one after a restart."""
    world = await make_world(tmp_path, SMALL)
    (first, _) = await filled(world)
    await world.crash()
    victim = world.pod()
    victim["metadata"]["namespace"] = "victims"
    world.api.add(victim)
    liar = world.connector._agents[first.instance_id]
    liar.uid = victim["metadata"]["uid"]
    liar.grant = Grants(lambda: ["00" * 32]).sign(first.instance_id, liar.uid)
    received = world.connector.listen(first.instance_id)
    await world.start()
    await world.until(lambda: status_of(world, victim) == "Running")
    record = world.record(victim)
    assert record is not None and record.instance is not None
    assert record.instance.instance_id != first.instance_id and received == []
    await world.stop()


async def test_one_that_has_had_a_pod_is_nobody_elses_whatever_its_agent_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod is gone while no provider runs, and who controls the instance says that it is empty."""
    monkeypatch.setattr(tagging, "DELAY_S", 100.0)
    world = await make_world(tmp_path, SMALL)
    await filled(world)
    pod = await run_pod(world)
    (used,) = world.live_of(pod)
    await world.until(lambda: world.cloud._instances[used.instance_id].tags.get(TAG_POD_NAMESPACE) == "default")
    await world.crash()
    del world.api.pods[("default", pod["metadata"]["name"])]
    liar = world.connector._agents[used.instance_id]
    liar.uid = ""
    received = world.connector.listen(used.instance_id)
    await world.start()
    await filled(world)
    pods = [await run_pod(world, "victims") for _ in range(3)]
    assert received == [] and used.instance_id not in {each.instance_id for pod in pods for each in world.live_of(pod)}
    assert used.instance_id not in world.room.stock.kept()
    await world.stop()


async def test_with_the_right_grant_the_same_claim_holds(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    (first, _) = await filled(world)
    await world.crash()
    pod = world.pod()
    world.api.add(pod)
    agent = world.connector._agents[first.instance_id]
    agent.uid = pod["metadata"]["uid"]
    agent.grant = Grants(lambda: [MASTER]).sign(first.instance_id, agent.uid)
    await world.start()
    await world.until(lambda: (record := world.record(pod)) is not None and record.instance is not None)
    record = world.record(pod)
    assert record is not None and record.instance is not None and record.instance.instance_id == first.instance_id
    await world.stop()


async def test_a_change_of_the_configuration_or_of_the_pool_replaces_what_is_idle(tmp_path: Path) -> None:
    world = await make_world(tmp_path, SMALL)
    old = {each.instance_id for each in await filled(world)}
    for configuration, pools in (
        ("another image", (SMALL,)),
        ("another image", (PoolSettings("small", cpu="2", memory="256Mi", count=2),)),
        ("another image", (PoolSettings("other", cpu="2", memory="256Mi", count=2),)),
    ):
        await world.crash()
        world.configuration, world.pools = configuration, pools
        await world.start()
        known = frozenset(old)
        await world.until(lambda known=known: not known & {each.instance_id for each in world.live()})
        old |= {each.instance_id for each in await filled(world, 2, pools[0].name)}
        assert len(world.live()) == 2
    await world.stop()


async def test_a_smaller_pool_leaves_the_rest_to_the_sweep(tmp_path: Path) -> None:
    world = await make_world(tmp_path, PoolSettings("small", cpu="1", memory="256Mi", count=4))
    await filled(world, 4)
    await world.crash()
    world.pools = (SMALL,)
    await world.start()
    await filled(world, 4)
    sweep = make_sweep(world)
    assert await sweep.sweep() == []
    assert len(await sweep.sweep()) == 2
    assert len(await filled(world, 2)) == len(world.live()) == 2
    assert await sweep.sweep() == await sweep.sweep() == []
    await world.stop()


async def test_an_instance_that_the_cloud_takes_back_is_given_to_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, SimulationConfig(faults=SimulatedFaults(notice_s=5.0)))
    world.pools = (PoolSettings("small", cpu="1", memory="256Mi", count=1),)
    await world.start()
    following = asyncio.create_task(world.room.run())
    (first,) = await filled(world, 1)
    world.cloud.interrupt(first.instance_id)
    await world.until(lambda: first.instance_id not in {each.instance_id for each in world.live()})
    await filled(world, 1)
    assert world.cloud._instances[first.instance_id].state_reason.startswith("Client.UserInitiated")
    following.cancel()
    await world.stop()


async def test_an_agent_that_falls_silent_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "SILENT_S", 0.1)
    monkeypatch.setattr(filling, "LOOK_S", 0.05)
    world = await make_world(tmp_path, SMALL)
    (first, _) = await filled(world)
    world.connector.cut(first.instance_id)
    await world.until(lambda: len(world.live()) == 3)
    await filled(world)
    assert first.instance_id not in world.room.stock.kept()
    await world.stop()


async def test_a_pool_that_the_cloud_has_no_offering_for_is_a_bad_start(tmp_path: Path) -> None:
    with pytest.raises(BadStartError, match="pool huge: no offering"):
        await make_world(tmp_path, PoolSettings("huge", instance_type="x99.*"))


async def test_a_pool_of_no_size_costs_nothing_and_counts_no_misses(tmp_path: Path) -> None:
    world = await make_world(tmp_path, PoolSettings("small", cpu="1", memory="256Mi", count=0))
    pod = await run_pod(world)
    assert len(world.live()) == 1 and TAG_POOL not in world.live_of(pod)[0].tags
    assert value(world, "vk_pool_misses_total", pool="small") is None
    assert world.live_of(pod)[0].tags[TAG_POD_UID] == pod["metadata"]["uid"]
    await world.stop()


async def test_a_pool_grows_with_what_pods_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await make_world(tmp_path, PoolSettings("small", cpu="1", memory="256Mi", count=1, max=3))
    await filled(world, 1)
    for _ in range(5):
        await run_pod(world)
    await filled(world, 3)
    monkeypatch.setattr(pool, "FOLLOWED_S", 0.0)
    assert len(world.room.stock.kept()) == 1
    await world.stop()


async def test_what_is_due_in_a_moment_is_waited_for_though_the_moment_has_come_meanwhile(tmp_path: Path) -> None:
    """A timer may fire a little early, and the time goes on while pools are looked at."""
    world = await make_world(tmp_path, SMALL)
    await filled(world)
    (filled_pool,) = world.room.filling._members.pools.values()
    filled_pool.resume_at = time.monotonic() - 0.001
    assert world.room.filling._pause_s(filled_pool.resume_at - 0.001, 0.0) < 0.1
    assert world.room.filling._pause_s(time.monotonic(), 0.002) < 0.1
    await world.stop()
