"""The faults of the simulated cloud, as settings say."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from vk_provider.cloud.base import TAG_OWNER, InstanceState, LaunchAnswer, LaunchRequest, NoticeKind
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import BadStartError, CapacityError, CloudError, CloudQuotaError, CloudThrottledError
from vk_provider.settings import load_settings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None, **faults: object) -> SimulatedCloud:
    return SimulatedCloud(SimulationConfig(faults=SimulatedFaults(**faults)), "o", clock or Clock())


async def launch(cloud: SimulatedCloud, count: int = 1, token: str = "t", first: int = 0) -> LaunchAnswer:
    offerings = tuple((await SimulatedCloud.describe_offerings(cloud))[first : first + 10])
    return await cloud.launch(LaunchRequest(token, offerings, {TAG_OWNER: "o"}, "{}", count))


async def test_calls_and_instances_have_a_bucket_each() -> None:
    clock = Clock()
    cloud = make(clock, resource_burst=10, resource_rate=2.0)
    assert len((await launch(cloud, 10)).instances) == 10
    with pytest.raises(CloudThrottledError) as refused:
        await launch(cloud, 4, "more")
    assert refused.value.retry_after_s == pytest.approx(2.0) and not refused.value.effect_unknown
    clock.now += 2.0
    assert len((await launch(cloud, 4, "more")).instances) == 4, "a refused call costs nothing"
    busy = make(clock, call_burst=3, call_rate=1.0)
    await list_owned(busy)
    await list_owned(busy)
    await list_owned(busy)
    with pytest.raises(CloudThrottledError):
        await list_owned(busy)
    await busy.describe_runtime()  # a bucket of its own


async def test_capacity_and_quotas_bring_a_part_and_say_which_limit_it_was() -> None:
    cloud = make(capacity=2)
    answer = await launch(cloud, 5)
    spread = Counter((item.instance_type, item.zone, item.capacity_type) for item in answer.instances)
    assert sorted(spread.values()) == [1, 2, 2]
    assert [type(failure.error) for failure in answer.failures] == [CapacityError, CapacityError]
    full = make(max_instances=3)
    answer = await launch(full, 5)
    assert len(answer.instances) == 3 and isinstance(answer.failures[-1].error, CloudQuotaError)
    family = make(max_vcpus=1)
    answer = await launch(family, 100)
    error = answer.failures[0].error
    assert isinstance(error, CloudQuotaError) and error.family == "l1" and "VcpuLimitExceeded" in str(error)
    none = make(no_capacity=("*/*/spot",))
    assert {item.capacity_type for item in (await launch(none, 3)).instances} == {"on-demand"}


async def test_a_lost_answer_was_carried_out_and_the_token_brings_it_again() -> None:
    cloud = make(lost_answers=1.0)
    with pytest.raises(CloudError, match="Unavailable") as lost:
        await launch(cloud, 3)
    assert lost.value.effect_unknown and len(cloud._instances) == 3
    with pytest.raises(CloudError):
        await launch(cloud, 3)
    assert len(cloud._instances) == 3


async def test_listings_lag_behind_and_leave_out() -> None:
    clock = Clock()
    cloud = make(clock, listing_lag_s=10.0)
    assert cloud.listing_lag_s == 10.0
    await launch(cloud, 50)
    early = len(await list_owned(cloud))
    assert early < 50
    clock.now += 10.0
    listed = await list_owned(cloud)
    assert len(listed) == 50
    await cloud.terminate([item.instance_id for item in listed])
    assert InstanceState.RUNNING in {item.state for item in await list_owned(cloud)}, "shown as it was"
    clock.now += 10.0
    assert {item.state for item in await list_owned(cloud)} == {InstanceState.TERMINATED}
    lying = make(missing_share=0.5)
    await launch(lying, 100)
    assert 20 < len(await list_owned(lying)) < 80


async def test_boots_fail_or_take_long() -> None:
    clock = Clock()
    cloud = make(clock, failed_boots=0.3, slow_boots=0.5, slow_boot_s=30.0)
    names = [item.instance_id for item in (await launch(cloud, 100)).instances]
    quick = sum(map(cloud.is_booted, names))
    clock.now += 30.0
    slow = sum(map(cloud.is_booted, names)) - quick
    assert 20 < quick < 50 and 20 < slow < 50 and quick + slow < 90


async def test_an_instance_shuts_down_for_a_while_in_which_its_agent_still_answers() -> None:
    cloud = make(shutdown_s=0.05)
    (instance,) = (await launch(cloud)).instances
    await cloud.terminate([instance.instance_id])
    (found,) = await list_owned(cloud)
    assert found.state is InstanceState.SHUTTING_DOWN and cloud.is_booted(instance.instance_id)
    asked_at = found.ended_at
    assert asked_at >= instance.launch_time and instance.ended_at == 0.0
    await asyncio.sleep(0.1)
    (found,) = await list_owned(cloud)
    assert found.state is InstanceState.TERMINATED and found.primary_ip == ""
    assert found.ended_at == asked_at, "when its end began"


async def test_spot_instances_are_interrupted_after_a_notice() -> None:
    cloud = make(kills_per_hour=3600.0 * 1000, notice_s=0.02)
    told = []

    async def listen() -> None:
        async for notice in cloud.notices():
            told.append(notice)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    answer = await launch(cloud, 3)
    spot = [item for item in answer.instances if item.capacity_type == "spot"]
    async with asyncio.timeout(30):
        while sum(notice.kind is NoticeKind.STATE for notice in told) < len(spot):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    kinds = Counter(notice.kind for notice in told)
    assert spot and kinds == {NoticeKind.INTERRUPTION: len(spot), NoticeKind.STATE: len(spot)}
    assert {item.state for item in await cloud.describe([item.instance_id for item in spot])} == {
        InstanceState.TERMINATED
    }
    listening.cancel()
    await cloud.close()


async def test_some_instances_are_hard_to_terminate() -> None:
    cloud = make(unterminable=1.0)
    (instance,) = (await launch(cloud)).instances
    results = [(await cloud.terminate([instance.instance_id]))[0] for _ in range(4)]
    assert [isinstance(result, CloudError) for result in results] == [True, True, True, False]


async def test_the_same_seed_draws_the_same_faults() -> None:
    async def draw(seed: int) -> list[bool]:
        cloud = make(seed=seed, failed_boots=0.5)
        return [cloud.is_booted(item.instance_id) for item in (await launch(cloud, 50)).instances]

    assert await draw(7) == await draw(7) != await draw(8)


def test_faults_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    text = '[[nodes]]\nname = "n"\n[cloud]\nbackend = "simulated"\n[cloud.simulated.faults]\n'
    path.write_text(text + "seed = 7\nlost_answers = 0.1\n")
    assert load_settings(path, {}).cloud.own.faults == SimulatedFaults(seed=7, lost_answers=0.1)
    path.write_text(text + "lost_answers = 1.1\n")
    with pytest.raises(BadStartError, match=r"cloud\.simulated\.faults\.lost_answers"):
        load_settings(path, {})
