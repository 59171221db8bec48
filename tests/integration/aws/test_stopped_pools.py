"""Stopped pools on EC2: StopInstances and StartInstances with many IDs, and what becomes of a start that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.integration.aws.conftest import offering, request
from tests.integration.aws.provider import AwsWorld
from tests.moto.booted import BootedAws
from tests.moto.plan import Bucket, Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer
from tests.unit.pods.rig import OWNER
from vk_provider.bills import Bills
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import TAG_POOL, Instance, InstanceState
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CapacityError, CloudQuotaError, CloudRequestError, CloudThrottledError
from vk_provider.instances import filling, pool, standby, table, tagging
from vk_provider.instances.instance import Rest
from vk_provider.settings import PoolSettings

LIMIT_S = 120.0
COUNT = 4
DISK_USD = 20 * 0.08 / 730
"""An hour of the root volume of one, at the price of the settings."""
POOL = PoolSettings("pool", cpu="1", memory="512Mi", count=COUNT, price_factor=50.0, state="stopped")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.2)
    monkeypatch.setattr(tagging, "DELAY_S", 0.1)
    monkeypatch.setattr(pool, "QUIET_S", 1.0)
    monkeypatch.setattr(filling, "SETTLE_S", 0.2)
    monkeypatch.setattr(standby, "LOOK_S", 0.2)


@asynccontextmanager
async def pooled(directory: Path, moto: MotoServer, account: Account) -> AsyncIterator[AwsWorld]:
    """A provider with a stopped pool."""
    cloud = BootedAws(moto.settings(account), OWNER)
    await cloud.start()
    world = AwsWorld(directory, cloud)
    world.pools = (POOL,)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()
        await cloud.close()


async def rested(world: AwsWorld) -> Mapping[str, Instance]:
    """All of the pool once they have stopped."""

    def found() -> dict[str, Instance]:
        return {
            each.instance_id: each.described
            for each in world.room.supply.unclaimed.values()
            if each.rest is Rest.STOPPED
        }

    await world.until(lambda: len(found()) == COUNT, LIMIT_S)
    return found()


async def listed(world: AwsWorld) -> dict[str, Instance]:
    return {each.instance_id: each for each in await list_owned(world.cloud) if not each.state.is_terminating}


async def test_pods_start_what_is_stopped_with_one_call_and_find_their_addresses(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with pooled(tmp_path, moto, account) as world:
        known = await rested(world)
        assert {each.state for each in (await listed(world)).values()} == {InstanceState.STOPPED}
        usage = world.room.meter.usage()
        assert usage.instances == 0 and usage.nanos / COUNT / 1e9 == pytest.approx(DISK_USD, rel=1e-6)
        for row in Bills(world.room, cast("Any", None), {}, ()).instances(
            world.room.table.owned[next(iter(known))].node
        ):
            assert (row["state"], row["pool"], row["witness"], row["rootGiB"]) == ("stopped", "pool", "listing", 20)
            assert row["usdPerHour"] == row["diskUsdPerHour"] == pytest.approx(DISK_USD, abs=1e-6)
        before = moto.calls()
        assert before["StopInstances"] <= COUNT
        world.add_pods(COUNT)
        await world.until_running(COUNT, LIMIT_S)
        calls = moto.calls() - before
        assert calls["StartInstances"] == 1 and calls["AssignPrivateIpAddresses"] == 0
        served = {each.instance_id: each for each in world.room.table.owned.values() if each.pod_uid}
        assert set(served) == set(known)
        assert world.room.meter.usage("default").instances == COUNT
        assert world.room.meter.usage("default").nanos / COUNT / 1e9 > DISK_USD
        running = await listed(world)
        for name, instance in known.items():
            assert instance.pod_ip and running[name].pod_ip == instance.pod_ip
            assert running[name].primary_ip == instance.primary_ip
            assert running[name].launch_time > instance.launch_time
        assert len(await rested(world)) == COUNT


@pytest.mark.parametrize(
    "rule",
    [
        Rule("StartInstances", "InsufficientInstanceCapacity"),
        Rule("StartInstances", "RequestLimitExceeded", status=503),
        Rule("StartInstances", "InternalError", status=500),
        Rule("StartInstances", "InternalError", status=500, after=True),
    ],
    ids=["capacity", "throttled", "not carried out", "answer lost"],
)
async def test_a_start_that_fails_is_a_launch_and_nothing_is_left_behind(
    tmp_path: Path, moto: MotoServer, account: Account, rule: Rule
) -> None:
    async with pooled(tmp_path, moto, account) as world:
        known = await rested(world)
        moto.plan(Plan(rules=(rule,)))
        world.add_pods(2)
        await world.until_running(2, LIMIT_S)
        served = [each for each in world.room.table.owned.values() if each.pod_uid]
        assert not {each.instance_id for each in served} & set(known)
        assert all(TAG_POOL not in each.described.tags for each in served)
        moto.plan()
        assert set(await rested(world)) == set(known), "what had started was stopped again"
        assert len(await listed(world)) == COUNT + 2


# --- the calls -----------------------------------------------------------------------------------------------------


async def stopped(cloud: AwsCloud, account: Account, count: int) -> list[str]:
    ids = [i.instance_id for i in (await cloud.launch(request("all", offering(account), count=count))).instances]
    assert await cloud.stop_instances(ids) == [None] * count
    assert {each.state for each in await list_owned(cloud)} == {InstanceState.STOPPED}
    return ids


async def test_a_batch_that_finds_no_capacity_is_taken_apart_a_few_times_only(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await stopped(cloud, account, 64)
    moto.plan(Plan(rules=(Rule("StartInstances", "InsufficientInstanceCapacity"),)))
    before = moto.calls()["StartInstances"]
    assert [type(each) for each in await cloud.start_instances(ids)] == [CapacityError] * 64
    assert moto.calls()["StartInstances"] - before <= 17
    moto.plan(Plan(shortages=(Shortage("*", room=40),)))
    results = await cloud.start_instances(ids)
    started = [each for each, failure in zip(ids, results, strict=True) if failure is None]
    assert 0 < len(started) <= 40
    states = {each.instance_id: each.state for each in await list_owned(cloud)}
    assert {name for name, state in states.items() if state is not InstanceState.STOPPED} == set(started)


async def test_one_bad_id_harms_no_other_and_what_holds_for_all_is_raised(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await stopped(cloud, account, 8)
    await cloud.terminate(ids[3:4])
    moto.plan(Plan(rules=(Rule("StartInstances", "RequestLimitExceeded", status=503, times=1),)))
    with pytest.raises(CloudThrottledError):
        await cloud.start_instances(ids)
    results = await cloud.start_instances(ids)
    assert isinstance(results[3], CloudRequestError) and [each for each in results if each is not None] == [results[3]]
    moto.plan(Plan(resources={"StopInstances": Bucket(1, 0.001)}, max_instances=1))
    assert await cloud.stop_instances(ids[:1]) == [None]
    with pytest.raises(CloudThrottledError):
        await cloud.stop_instances(ids[1:2])
    (refused,) = await cloud.start_instances(ids[:1])
    assert isinstance(refused, CloudQuotaError)
