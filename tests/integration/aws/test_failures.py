"""What EC2 does to its callers, and what becomes of it: errors by class, throttling, terminations, tags, access."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.integration.aws.conftest import offering, request, started
from tests.moto.plan import Bucket, Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.aws.operations import DESCRIBE_INSTANCES
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import (
    BadStartError,
    CapacityError,
    CloudAccessError,
    CloudError,
    CloudQuotaError,
    CloudRequestError,
    CloudThrottledError,
)

FAILURES: list[tuple[str, type[CloudError]]] = [
    ("InsufficientInstanceCapacity", CapacityError),
    ("InsufficientHostCapacity", CapacityError),
    ("InsufficientReservedInstanceCapacity", CapacityError),
    ("UnfulfillableCapacity", CapacityError),
    ("Unsupported", CapacityError),
    ("MaxSpotInstanceCountExceeded", CapacityError),
    ("SpotMaxPriceTooLow", CapacityError),
    ("InsufficientFreeAddressesInSubnet", CapacityError),
    ("VcpuLimitExceeded", CloudQuotaError),
    ("InstanceLimitExceeded", CloudQuotaError),
    ("UnauthorizedOperation", CloudRequestError),
    ("InvalidParameterValue", CloudRequestError),
]
RAISED: list[tuple[str, int, type[CloudError]]] = [
    ("RequestLimitExceeded", 503, CloudThrottledError),
    ("Throttling", 400, CloudThrottledError),
    ("Unavailable", 503, CloudError),
    ("InternalError", 500, CloudError),
    ("SomethingNew", 500, CloudError),
    ("ExpiredToken", 400, CloudAccessError),
    ("RequestExpired", 400, CloudAccessError),
    ("AuthFailure", 401, CloudAccessError),
    ("Blocked", 400, CloudAccessError),
    ("OptInRequired", 401, CloudAccessError),
    ("PendingVerification", 400, CloudAccessError),
]


async def test_an_error_of_an_offering_is_its_failure_by_either_call(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    both = [offering(account), offering(account, "c7i.large")]
    for code, kind in FAILURES:
        for number, offerings in enumerate((both[:1], both)):
            moto.plan(Plan(shortages=(Shortage("*", code),)))
            answer = await cloud.launch(request(f"{code}-{number}", *offerings))
            assert answer.instances == ()
            assert [(f.offering, type(f.error)) for f in answer.failures] == [(o, kind) for o in offerings]
            assert all(str(failure.error).startswith(f"{code}:") for failure in answer.failures)
    moto.plan()
    assert await list_owned(cloud) == []


async def test_an_error_of_the_call_is_raised_and_says_what_was_done(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    both = [offering(account), offering(account, "c7i.large")]
    for code, status, kind in RAISED:
        for number, offerings in enumerate((both[:1], both)):
            moto.plan(Plan(rules=(Rule("RunInstances", code, status=status), Rule("CreateFleet", code, status=status))))
            with pytest.raises(CloudError) as caught:
                await cloud.launch(request(f"{code}-{number}", *offerings))
            assert type(caught.value) is kind and str(caught.value).startswith(f"{code}:")
            assert caught.value.retryable and caught.value.effect_unknown == (kind is CloudError)


async def test_a_throttled_call_says_how_long_to_wait_and_is_not_repeated_by_the_sdk(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    moto.plan(Plan(rules=(Rule("RunInstances", "RequestLimitExceeded", status=503, retry_after_s=7.0),)))
    with pytest.raises(CloudThrottledError) as caught:
        await cloud.launch(request("one", offering(account)))
    assert caught.value.retry_after_s == 7.0 and moto.calls()["RunInstances"] == 1


async def test_resources_of_a_group_are_counted_and_a_group_that_is_too_large_is_refused_whole(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    moto.plan(Plan(resources={"RunInstances": Bucket(10, 0.001)}))
    both = [offering(account), offering(account, "c7i.large")]
    await cloud.launch(request("first", *both, count=8))
    with pytest.raises(CloudThrottledError):
        await cloud.launch(request("second", *both, count=8))
    moto.plan(Plan(resources={"RunInstances": Bucket(10, 0.001)}))
    assert len((await cloud.launch(request("second", *both, count=8))).instances) == 8


async def test_no_answer_in_time_may_have_done_anything(moto: MotoServer, account: Account) -> None:
    async with started(moto, account, read_timeout_s=0.5) as cloud:
        moto.plan(Plan(rules=(Rule("RunInstances", delay_s=1.0, times=1),)))
        with pytest.raises(CloudError, match="no answer") as caught:
            await cloud.launch(request("slow", offering(account)))
        assert caught.value.effect_unknown
        await asyncio.sleep(1.0)
        answer = await cloud.launch(request("slow", offering(account)))
        assert [i.instance_id for i in answer.instances] == [i.instance_id for i in await list_owned(cloud)]


async def test_without_a_server_every_call_is_unanswered(moto: MotoServer, account: Account) -> None:
    client = AwsClient(replace(moto.settings(account), endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(CloudRequestError, match="not started"):
        await client.call(DESCRIBE_INSTANCES, {})
    await client.start()
    with pytest.raises(CloudError, match="no answer") as caught:
        await client.call(DESCRIBE_INSTANCES, {})
    assert caught.value.effect_unknown
    with pytest.raises(CloudRequestError, match="InvalidParameterValue"):
        await client.call(DESCRIBE_INSTANCES, {"Colour": "red"})
    await client.close()


# --- states ------------------------------------------------------------------------------------------------------


async def test_every_state_of_ec2_is_listed_as_it_is(cloud: AwsCloud, moto: MotoServer, account: Account) -> None:
    (instance,) = (await cloud.launch(request("one", offering(account)))).instances
    for name in ("running", "stopping", "stopped", "shutting-down"):
        moto.plan(Plan(shutdown_s=60.0))
        moto.set_state(instance.instance_id, name, "Client.InstanceInitiatedShutdown: poweroff")
        (found,) = await list_owned(cloud)
        assert found.state is InstanceState(name) and found.state_reason.startswith("Client.")
        assert found.primary_ip == instance.primary_ip and found.pod_ip == instance.pod_ip
    moto.set_state(instance.instance_id, "terminated", "Server.SpotInstanceTermination: reclaimed")
    (found,) = await list_owned(cloud)
    assert found.state.is_terminated and found.host_ips == found.pod_ips == ()


# --- terminations ------------------------------------------------------------------------------------------------


async def launched(cloud: AwsCloud, account: Account, count: int) -> list[str]:
    both = [offering(account), offering(account, "c7i.large")]
    return [i.instance_id for i in (await cloud.launch(request("all", *both, count=count))).instances]


async def test_one_bad_id_costs_a_few_calls_more_and_harms_no_other(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await launched(cloud, account, 16)
    moto.plan(Plan(protected=(ids[5],)))
    before = moto.calls()["TerminateInstances"]
    results = await cloud.terminate([*ids, "i-00000000000000000"])
    assert [each for each in results if each is not None] == [results[5]]
    assert isinstance(results[5], CloudRequestError) and "OperationNotPermitted" in str(results[5])
    assert moto.calls()["TerminateInstances"] - before <= 20
    states = {each.instance_id: each.state.is_terminating for each in await list_owned(cloud)}
    assert states == {each: each != ids[5] for each in ids}
    moto.plan()
    assert await cloud.terminate(ids) == [None] * 16
    assert moto.calls()["TerminateInstances"] - before <= 21


async def test_what_holds_for_all_ids_is_raised_and_what_comes_in_the_middle_is_the_result_of_the_rest(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await launched(cloud, account, 4)
    moto.plan(Plan(rules=(Rule("TerminateInstances", "RequestLimitExceeded", status=503, times=1),)))
    with pytest.raises(CloudThrottledError):
        await cloud.terminate(ids)
    moto.plan(Plan(protected=(ids[0],), requests={"TerminateInstances": Bucket(3, 0.001)}))
    results = await cloud.terminate(ids)  # all, the first half, its first
    assert isinstance(results[0], CloudRequestError)
    assert [type(each) for each in results[1:]] == [CloudThrottledError] * 3
    moto.plan()
    assert await cloud.terminate(ids) == [None] * 4


async def test_a_permission_that_is_missing_is_the_result_of_every_id_after_one_call(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await launched(cloud, account, 8)
    moto.plan(Plan(rules=(Rule("TerminateInstances", "UnauthorizedOperation", status=403),)))
    before = moto.calls()["TerminateInstances"]
    results = await cloud.terminate(ids)
    assert [type(each) for each in results] == [CloudRequestError] * 8
    assert moto.calls()["TerminateInstances"] == before + 1


# --- tags --------------------------------------------------------------------------------------------------------


async def test_tags_beyond_the_limit_of_an_instance_are_refused_and_an_id_that_is_not_known_yet_is_tried_again(
    cloud: AwsCloud, account: Account
) -> None:
    (instance_id,) = await launched(cloud, account, 1)
    with pytest.raises(CloudRequestError, match="TagLimitExceeded"):
        await cloud.create_tags([instance_id], {f"k{number}": "" for number in range(50)})
    with pytest.raises(CloudError) as caught:
        await cloud.create_tags(["i-00000000000000000"], {"a": "b"})
    assert caught.value.retryable
    await cloud.create_tags([instance_id], {"a": "b"})
    assert (await cloud.describe([instance_id]))[0].tags["a"] == "b"


async def test_fifty_tags_of_a_group_go_with_the_launch(cloud: AwsCloud, account: Account) -> None:
    plain = request("many", offering(account), offering(account, "c7i.large"))
    wanted = replace(plain, tags={**plain.tags, **{f"pod/k{number}": "v" * 256 for number in range(47)}})
    answer = await cloud.launch(wanted)
    assert answer.failures == ()
    assert dict(answer.instances[0].tags) == dict(wanted.tags) and len(wanted.tags) == 50


# --- access ------------------------------------------------------------------------------------------------------


async def test_credentials_that_expire_in_the_middle_lose_nothing(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    ids = await launched(cloud, account, 3)
    moto.plan(Plan(rules=(Rule("*", "ExpiredToken", "The security token included in the request is expired"),)))
    calls = (
        lambda: cloud.list_page(),
        lambda: cloud.describe(ids),
        lambda: cloud.terminate(ids),
        lambda: cloud.create_tags(ids, {"a": "b"}),
        lambda: cloud.launch(request("more", offering(account))),
    )
    for call in calls:
        with pytest.raises(CloudAccessError, match="expired"):
            await call()
    moto.plan()
    assert sorted(each.instance_id for each in await list_owned(cloud)) == sorted(ids)
    assert len((await cloud.launch(request("more", offering(account)))).instances) == 1
    assert await cloud.terminate(ids) == [None] * 3


async def test_a_start_without_credentials_or_with_a_suspended_account_says_so(
    moto: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.plan(Plan(rules=(Rule("*", "OptInRequired", "You are not subscribed to this service", status=401),)))
    with pytest.raises(BadStartError, match="OptInRequired"):
        async with started(moto, account):
            pass
    moto.plan()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(BadStartError, match="credentials"):
        async with started(moto, account):
            pass
    with pytest.raises(BadStartError, match="profile"):
        async with started(moto, account, profile="nobody"):
            pass
