"""How many calls a burst costs, and what EC2's token buckets do to it. Times are the server's: moto makes about a
hundred instances a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.aws.provider import AwsWorld, provider
from tests.moto.plan import Bucket, Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.listing import list_owned

LIMIT_S = 400.0
LAUNCHES = ("RunInstances", "CreateFleet")
BUCKETS = Plan(
    resources={"RunInstances": Bucket(1000, 2)},
    requests={"RunInstances": Bucket(5, 2), "CreateFleet": Bucket(5, 2), "*": Bucket(100, 10)},
)
"""As AWS documents them (resources), and as is believed (requests)."""


def waited(world: AwsWorld) -> list[str]:
    """Events of pods whose launch is tried again."""
    return [message for reason, message in world.recorder.events if reason == "FailedLaunch"]


async def launched(world: AwsWorld) -> int:
    return len([each for each in await list_owned(world.cloud) if not each.state.is_terminating])


async def test_a_burst_of_500_equal_pods_is_a_few_calls(tmp_path: Path, moto: MotoServer, account: Account) -> None:
    async with provider(tmp_path, moto, account) as world:
        before = moto.calls()
        world.add_pods(500)
        await world.until_running(500, LIMIT_S)
        calls = moto.calls() - before
        writes = sum(count for api, count in calls.items() if not api.startswith("Describe"))
        assert sum(calls[api] for api in LAUNCHES) <= 10, calls
        assert writes <= 30 and calls["DescribeInstances"] <= 40, calls
        assert not waited(world) and await launched(world) == 500


async def test_500_pods_of_50_shapes_are_at_most_60_launches(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        before = moto.calls()
        for shape in range(50):
            world.add_pods(10, memory=f"{256 + 8 * shape}Mi")
        await world.until_running(500, LIMIT_S)
        calls = moto.calls() - before
        assert sum(calls[api] for api in LAUNCHES) <= 60, calls
        assert not waited(world) and await launched(world) == 500


async def test_1000_pods_fit_into_the_buckets_of_ec2_and_none_waits_for_a_retry_of_its_own(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        moto.plan(BUCKETS)
        world.add_pods(1000)
        await world.until_running(1000, LIMIT_S)
        assert not waited(world) and await launched(world) == 1000


async def test_throttled_launches_wait_in_the_queue_and_come_in_larger_groups(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    """50 shapes are 50 calls, and a bucket of five lets them through as it fills: no pod knows."""
    async with provider(tmp_path, moto, account) as world:
        bucket = Bucket(5, 4)
        moto.plan(Plan(requests={"RunInstances": bucket, "CreateFleet": bucket}))
        for shape in range(20):
            world.add_pods(2, memory=f"{256 + 8 * shape}Mi")
        await world.until_running(40, LIMIT_S)
        assert sum(moto.throttled().values()) >= 1
        assert not waited(world) and await launched(world) == 40


@pytest.mark.parametrize("api", ["RunInstances", "CreateFleet"])
async def test_lost_answers_of_launches_bring_no_instance_too_many(
    tmp_path: Path, moto: MotoServer, account: Account, api: str
) -> None:
    one_offering = {"instance_types": ("m7i.large",), "subnets": account.subnets[:1]}
    async with provider(tmp_path, moto, account, **(one_offering if api == "RunInstances" else {})) as world:
        lost = Rule(api, "Unavailable", status=503, after=True, share=0.5, times=6)
        moto.plan(Plan(seed=7, rules=(lost,), lag_s=0.3, in_call=("one", "many", "fleet")))
        for shape in range(6):
            world.add_pods(3, memory=f"{256 + 8 * shape}Mi")
        await world.until_running(18, LIMIT_S)
        moto.plan()
        assert waited(world), "answers were lost"
        assert await launched(world) == 18


async def test_where_the_cheapest_is_short_the_next_is_taken_and_every_pod_runs(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        moto.plan(Plan(shortages=(Shortage("*.large/*", room=4), Shortage("c7i.xlarge/*"))))
        world.add_pods(12)
        await world.until_running(12, LIMIT_S)
        listed = await list_owned(world.cloud)
        types = {each.instance_type for each in listed}
        assert len(listed) == 12 and types > {"m7i.xlarge"} and "c7i.xlarge" not in types
