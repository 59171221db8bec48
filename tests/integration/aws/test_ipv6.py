"""Dual stack on EC2: two IPv6 addresses for each instance, its own and its pod's."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from pathlib import Path

import pytest

from tests.integration.aws.conftest import offering, request, started
from tests.integration.aws.provider import provider
from tests.moto.plan import Plan, Rule
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws import addresses
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import BadStartError, CloudRequestError
from vk_provider.wire.bootdata import AWAIT_IPV6, BootData

BLOCK = "2001:db8:1234:1a00::/56"
USER_DATA = BootData("ca", "00ff").to_user_data()


@pytest.fixture
def dual(moto: MotoServer) -> Account:
    return moto.make_account(ipv6=BLOCK)


def check(instance: Instance) -> None:
    found = *instance.host_ips, *instance.pod_ips
    assert [ipaddress.ip_address(each).version for each in found] == [4, 6, 4, 6] and len(set(found)) == 4
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network(BLOCK) for each in found[1::2])


async def until_dual(cloud: AwsCloud, count: int) -> None:
    async with asyncio.timeout(30):
        while True:
            listed = await list_owned(cloud)
            if len(listed) == count and all(each.pod_ipv6 and each.pod_ip for each in listed):
                break
            await asyncio.sleep(0.05)
    for each in listed:
        check(each)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("second_address", ["auto", "prefix", "assign"])
async def test_addresses_of_both_families_come_with_the_launch(
    moto: MotoServer, dual: Account, second_address: str, count: int
) -> None:
    async with started(moto, dual, ipv6=True, second_address=second_address) as cloud:
        await cloud.launch(request("g", offering(dual), count=count, user_data=USER_DATA))
        await until_dual(cloud, count)
        two = [offering(dual), offering(dual, zone=1)]
        answer = await cloud.launch(request("ranked", *two, count=2, user_data=USER_DATA))
        assert all(each.primary_ipv6 and each.pod_ipv6 for each in answer.instances)
    assert moto.calls()["AssignIpv6Addresses"] == 0


async def test_an_account_that_takes_none_in_the_call_has_them_assigned_afterwards(
    moto: MotoServer, dual: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vk_provider.cloud.aws.addresses.GRACE_S", 0.0)
    rules = (
        Rule("AssignIpv6Addresses", "RequestLimitExceeded", status=503, times=2),
        Rule("AssignIpv6Addresses", "InternalError", status=500, times=1),
    )
    moto.plan(Plan(in_call=(), ipv6_in_call=(), rules=rules))
    async with started(moto, dual, ipv6=True) as cloud:
        await cloud.launch(request("one", offering(dual), user_data=USER_DATA))
        two = [offering(dual), offering(dual, zone=1)]
        await cloud.launch(request("ranked", *two, count=2, user_data=USER_DATA))
        await until_dual(cloud, 3)
        calls = moto.calls()
        assert calls["AssignPrivateIpAddresses"] == 3 and calls["AssignIpv6Addresses"] == 3 + 3
        await cloud.launch(request("more", offering(dual), user_data=USER_DATA))
        assert moto.calls()["RunInstances"] == calls["RunInstances"] + 1, "what was refused is not asked for again"
        await until_dual(cloud, 4)


async def test_the_agent_is_told_to_wait_for_them(moto: MotoServer, dual: Account) -> None:
    async with started(moto, dual, ipv6=True) as cloud:
        (instance,) = (await cloud.launch(request("one", offering(dual), user_data=USER_DATA))).instances
        with pytest.raises(CloudRequestError, match="boot data"):
            await cloud.launch(request("two", offering(dual), user_data="hello"))
    attribute = moto.client("ec2").describe_instance_attribute(InstanceId=instance.instance_id, Attribute="userData")
    sent = BootData.from_user_data(base64.b64decode(attribute["UserData"]["Value"]).decode())
    assert sent.extra == {AWAIT_IPV6: True}


async def test_a_subnet_without_an_ipv6_block_is_refused_where_it_is_asked_for(
    moto: MotoServer, account: Account, dual: Account
) -> None:
    with pytest.raises(BadStartError, match=rf"subnet {account.subnets[0]} has no IPv6 block"):
        async with started(moto, account, ipv6=True):
            pass
    async with started(moto, dual, ipv6=True) as cloud:
        options = {"subnet": account.subnets[0]}
        wanted = request("elsewhere", offering(dual), user_data=USER_DATA, options=options)
        with pytest.raises(CloudRequestError, match="has no IPv6 block"):
            await cloud.launch(wanted)
    native = moto.client("ec2").create_subnet(VpcId=account.vpc_id, Ipv6CidrBlock="2001:db8::/64", Ipv6Native=True)
    with pytest.raises(BadStartError, match="has IPv6 addresses alone"):
        async with started(moto, account, subnets=(native["Subnet"]["SubnetId"],)):
            pass


async def test_without_the_setting_instances_are_ipv4_only_whatever_the_subnet_gives_them(
    moto: MotoServer, dual: Account
) -> None:
    for subnet in dual.subnets:
        moto.client("ec2").modify_subnet_attribute(SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    async with started(moto, dual) as cloud:
        (instance,) = (await cloud.launch(request("one", offering(dual)))).instances
        assert instance.pod_ip and (instance.primary_ipv6, instance.pod_ipv6) == ("", "")


async def test_pods_have_addresses_of_both_families_in_their_status(
    tmp_path: Path, moto: MotoServer, dual: Account
) -> None:
    async with provider(tmp_path, moto, dual, ipv6=True) as world:
        world.user_data = USER_DATA
        world.add_pods(2)
        await world.until_running(2, 60.0)
        for pod in world.api.pods.values():
            status = pod["status"]
            versions = [ipaddress.ip_address(each["ip"]).version for each in status["podIPs"]]
            assert versions == [4, 6] and status["podIP"] == status["podIPs"][0]["ip"]
            assert [ipaddress.ip_address(each["ip"]).version for each in status["hostIPs"]] == [4, 6]


@pytest.mark.parametrize("dies", [True, False])
async def test_an_address_that_could_not_be_assigned_is_assigned_by_a_later_listing(
    moto: MotoServer, dual: Account, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """The process dies between the two calls, or all tries of the second one fail."""
    monkeypatch.setattr(addresses, "GRACE_S", 0.0)
    monkeypatch.setattr(addresses, "TRIES", 2)
    rules = (Rule("AssignIpv6Addresses", "InternalError", status=500, times=1000 if dies else 2),)
    moto.plan(Plan(in_call=(), ipv6_in_call=(), rules=rules))
    async with started(moto, dual, ipv6=True) as cloud:
        (made,) = (await cloud.launch(request("one", offering(dual), user_data=USER_DATA))).instances
        async with asyncio.timeout(30):
            while not (dies and moto.calls()["AssignIpv6Addresses"]):  # noqa: ASYNC110 - it is another process
                if not dies and moto.calls()["AssignIpv6Addresses"] >= 2:
                    break
                await asyncio.sleep(0.02)
        if not dies:
            await until_dual(cloud, 1)
            return
    moto.plan(Plan(in_call=(), ipv6_in_call=()))
    async with started(moto, dual, ipv6=True) as after:
        assert made.pod_ipv6 == ""
        await until_dual(after, 1)


async def test_one_that_was_launched_without_ipv6_is_given_none_later(
    moto: MotoServer, dual: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "GRACE_S", 0.0)
    async with started(moto, dual) as cloud:
        await cloud.launch(request("one", offering(dual)))
    async with started(moto, dual, ipv6=True) as after:
        for _ in range(3):
            (listed,) = await list_owned(after)
            assert listed.pod_ip and not listed.pod_ipv6
            await asyncio.sleep(0.1)
    assert moto.calls()["AssignIpv6Addresses"] == 0
