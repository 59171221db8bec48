"""Launches on EC2: one call for a group, whichever way the account accepts it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.aws.conftest import OWNER, offering, request, started
from tests.moto.plan import Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import TAG_GROUP, Instance, InstanceState, LaunchAnswer, MachineTraits
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import BadStartError, CapacityError, CloudError, CloudQuotaError, CloudRequestError


async def until_addressed(cloud: AwsCloud, count: int) -> list[Instance]:
    """Listings until all instances have their second address."""
    async with asyncio.timeout(20):
        while True:
            listed = await list_owned(cloud)
            if len(listed) == count and all(each.pod_ip for each in listed):
                return listed
            await asyncio.sleep(0.05)


def check(answer: LaunchAnswer, count: int) -> None:
    assert len(answer.instances) == count and answer.failures == ()


async def test_one_offering_is_one_run_of_instances_with_their_second_addresses(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    answer = await cloud.launch(request("one", offering(account)))
    check(answer, 1)
    (instance,) = answer.instances
    assert instance.primary_ip and instance.pod_ip and instance.pod_ip != instance.primary_ip
    calls = moto.calls()
    assert (calls["RunInstances"], calls["CreateFleet"], calls["AssignPrivateIpAddresses"]) == (1, 0, 0)


async def test_ranked_offerings_are_one_fleet_whose_instances_are_described_in_one_call(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    offerings = [offering(account, name, zone) for name in ("m7i.large", "c7i.xlarge") for zone in (0, 1)]
    before = moto.calls()
    answer = await cloud.launch(request("ranked", *offerings, count=20))
    check(answer, 20)
    assert all(each.primary_ip and each.pod_ip for each in answer.instances)
    calls = moto.calls() - before
    assert dict(calls) == {"CreateLaunchTemplate": 1, "CreateFleet": 1, "DescribeInstances": 1}


async def test_a_group_of_one_offering_goes_by_a_fleet_once_the_account_has_refused_its_second_addresses(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    """RunInstances takes the second address of one instance only: that is learned once."""
    for number in range(2):
        answer = await cloud.launch(request(f"group-{number}", offering(account), count=3))
        check(answer, 3)
        assert all(each.pod_ip for each in answer.instances)
    calls = moto.calls()
    assert (calls["RunInstances"], calls["CreateFleet"], calls["AssignPrivateIpAddresses"]) == (1, 2, 0)


async def test_an_account_that_takes_no_second_address_in_any_call_has_them_assigned_afterwards(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    moto.plan(Plan(in_call=()))
    await cloud.launch(request("one", offering(account)))
    await cloud.launch(request("many", offering(account), count=3))
    two = [offering(account), offering(account, zone=1)]
    await cloud.launch(request("ranked", *two, count=2))
    listed = await until_addressed(cloud, 6)
    assert len({each.pod_ip for each in listed} | {each.primary_ip for each in listed}) == 12
    calls = moto.calls()
    assert calls["AssignPrivateIpAddresses"] == 6
    await cloud.launch(request("more", *two, count=2))
    assert moto.calls()["CreateFleet"] == calls["CreateFleet"] + 1, "what was refused once is not asked for again"


async def test_assigned_addresses_wait_out_throttling_and_errors(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    moto.plan(
        Plan(
            in_call=(),
            rules=(
                Rule("AssignPrivateIpAddresses", "RequestLimitExceeded", status=503, times=2),
                Rule("AssignPrivateIpAddresses", "InternalError", status=500, times=2),
            ),
        )
    )
    await cloud.launch(request("many", offering(account), count=2))
    await until_addressed(cloud, 2)


async def test_an_instance_whose_provider_died_before_it_had_its_second_address_gets_one(
    moto: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vk_provider.cloud.aws.addresses.GRACE_S", 0.0)
    moto.plan(Plan(in_call=(), rules=(Rule("AssignPrivateIpAddresses", "RequestLimitExceeded", status=503),)))
    async with started(moto, account) as first:
        (instance,) = (await first.launch(request("one", offering(account)))).instances
        assert not instance.pod_ip
    moto.plan(Plan(in_call=()))
    async with started(moto, account) as second:
        (found,) = await until_addressed(second, 1)
        assert found.instance_id == instance.instance_id


async def test_by_prefix_the_pods_address_is_the_first_of_its_own_sixteen(moto: MotoServer, account: Account) -> None:
    async with started(moto, account, second_address="prefix") as cloud:
        answer = await cloud.launch(request("prefixes", offering(account), count=3))
        check(answer, 3)
        assert len({each.pod_ip for each in answer.instances}) == 3
        assert all(int(each.pod_ip.rpartition(".")[2]) % 16 == 0 for each in answer.instances)
    assert moto.calls()["AssignPrivateIpAddresses"] == 0


@pytest.mark.parametrize("count", [1, 2])
async def test_instances_are_what_the_rules_of_the_house_say(
    cloud: AwsCloud, moto: MotoServer, account: Account, count: int
) -> None:
    """The same by both calls: IMDSv2, one hop, no tags in metadata, encrypted gp3, terminate, no key, tags on all."""
    wanted = request("rules", offering(account), count=count, disk_bytes=33 * 2**30, user_data="hello")
    answer = await cloud.launch(wanted)
    ec2 = moto.client("ec2")
    for instance in answer.instances:
        (found,) = ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"]
        options = found["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
        assert options["InstanceMetadataTags"] == "disabled" and "KeyName" not in found
        assert dict(instance.tags) == dict(wanted.tags)
        (volume,) = ec2.describe_volumes(VolumeIds=[found["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (33, "gp3", True)
        (interface,) = found["NetworkInterfaces"]
        assert [each["GroupId"] for each in interface["Groups"]] == [account.security_group]
        of_interface = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface["NetworkInterfaceId"]])
        for tags in (volume["Tags"], of_interface["NetworkInterfaces"][0]["TagSet"]):
            assert {each["Key"]: each["Value"] for each in tags} == dict(wanted.tags)
        for name, expected in (("userData", "hello"), ("instanceInitiatedShutdownBehavior", "terminate")):
            attribute = ec2.describe_instance_attribute(InstanceId=instance.instance_id, Attribute=name)
            value = next(each["Value"] for key, each in attribute.items() if key.lower() == name.lower())
            assert (base64.b64decode(value).decode() if name == "userData" else value) == expected


async def test_spot_instances_are_asked_for_as_such_by_both_calls(cloud: AwsCloud, account: Account) -> None:
    spot = [offering(account, name, capacity_type="spot") for name in ("m7i.large", "c7i.large")]
    one = await cloud.launch(request("one", spot[0]))
    more = await cloud.launch(request("more", *spot, count=2))
    listed = await list_owned(cloud)
    assert len(listed) == 3 and {each.capacity_type for each in (*listed, *one.instances, *more.instances)} == {"spot"}


async def test_one_call_is_for_one_capacity_type_and_the_rest_is_asked_for_by_the_caller(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    moto.plan(Plan(shortages=(Shortage("*/spot/*"),)))
    spot, plain = offering(account, capacity_type="spot"), offering(account)
    answer = await cloud.launch(request("mixed", spot, plain))
    assert answer.instances == () and [failure.offering for failure in answer.failures] == [spot]
    assert isinstance(answer.failures[0].error, CapacityError)


async def test_a_part_of_a_group_comes_with_the_reason_of_each_offering(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    shortages = (Shortage("m7i.large/*", room=1), Shortage("c7i.large/*", "MaxSpotInstanceCountExceeded"))
    moto.plan(Plan(shortages=shortages, max_vcpus={"r7i": 2}))
    names = ("m7i.large", "c7i.large", "r7i.large")
    answer = await cloud.launch(request("part", *(offering(account, name) for name in names), count=4))
    assert sorted(each.instance_type for each in answer.instances) == ["m7i.large", "r7i.large"]
    errors = {failure.offering.instance_type: failure.error for failure in answer.failures}
    assert [type(errors[name]) for name in names] == [CapacityError, CapacityError, CloudQuotaError]
    assert errors["c7i.large"].capacity_type == "on-demand" and errors["r7i.large"].family == "r7i"


async def test_a_fleet_without_instances_is_asked_for_again_when_there_is_capacity(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    """Its token is used up by then, and would say the same for ever."""
    wanted = request("again", offering(account), offering(account, "c7i.large"), count=2)
    moto.plan(Plan(shortages=(Shortage("*"),)))
    assert (await cloud.launch(wanted)).instances == ()
    moto.plan()
    check(await cloud.launch(wanted), 2)


async def test_a_full_subnet_is_passed_over_and_is_a_full_zone_only_when_all_are(moto: MotoServer) -> None:
    account = moto.make_account(prefix=28)
    ec2 = moto.client("ec2")
    more = ec2.create_subnet(VpcId=account.vpc_id, CidrBlock="10.60.32.0/28", AvailabilityZone=account.zones[0])
    subnets = (*account.subnets, more["Subnet"]["SubnetId"])
    async with started(moto, account, subnets=subnets) as cloud:
        check(await cloud.launch(request("first", offering(account), count=8)), 8)
        answer = await cloud.launch(request("second", offering(account), count=4))
        assert len(answer.instances) == 2
        (failure,) = answer.failures
        assert isinstance(failure.error, CapacityError) and failure.error.zone == account.zones[0]
        assert "InsufficientFreeAddressesInSubnet" in str(failure.error)


async def test_a_lost_answer_is_repeated_as_it_was_and_brings_the_same_instances(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    both = [offering(account), offering(account, "c7i.large")]
    for api, wanted in (("RunInstances", request("one", both[0])), ("CreateFleet", request("two", *both, count=2))):
        moto.plan(Plan(rules=(Rule(api, "Unavailable", status=503, after=True, times=1),)))
        with pytest.raises(CloudError, match="Unavailable") as caught:
            await cloud.launch(wanted)
        assert caught.value.effect_unknown
        check(await cloud.launch(wanted), wanted.count)
    assert len(await list_owned(cloud)) == 3


async def test_a_request_that_another_process_has_made_is_answered_by_its_instances_also_when_the_image_has_moved(
    moto: MotoServer, account: Account
) -> None:
    """The token is refused for the new image: the launch's tag says that it was the same launch."""
    wanted = request("moved", offering(account))
    group = request("moved-group", offering(account), offering(account, "c7i.large"), count=2)
    async with started(moto, account) as first:
        before = [await first.launch(each) for each in (wanted, group)]
    ec2 = moto.client("ec2")
    image = ec2.register_image(
        Name="newer", Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm"
    )
    moved = {**wanted.tags, TAG_GROUP: "other"}
    async with started(moto, account, image_amd64=image["ImageId"]) as second:
        after = [await second.launch(replace(wanted, tags=moved)), await second.launch(group)]
        assert len(await list_owned(second)) == 3
    for old, new in zip(before, after, strict=True):
        assert {i.instance_id for i in old.instances} == {i.instance_id for i in new.instances}


async def test_a_token_that_was_used_for_something_that_is_nowhere_is_refused_once_listings_must_show_it(
    moto: MotoServer, account: Account
) -> None:
    rule = Rule("RunInstances", "IdempotentParameterMismatch")
    async with started(moto, account, listing_lag_s=0.2) as cloud:
        moto.plan(Plan(rules=(rule,)))
        with pytest.raises(CloudError, match="not listed yet") as caught:
            await cloud.launch(request("used", offering(account)))
        assert caught.value.effect_unknown
        await asyncio.sleep(0.25)
        with pytest.raises(CloudRequestError, match="IdempotentParameterMismatch"):
            await cloud.launch(request("used", offering(account)))


async def test_launch_templates_are_found_again_by_their_content_and_swept_by_tag_and_age(
    cloud: AwsCloud, moto: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = moto.client("ec2")

    def names() -> list[str]:
        return [each["LaunchTemplateName"] for each in ec2.describe_launch_templates()["LaunchTemplates"]]

    both = [offering(account), offering(account, "c7i.large")]
    moto.plan(Plan(rules=(Rule("CreateFleet", "Unavailable", status=503, after=True, times=1),)))
    with pytest.raises(CloudError):
        await cloud.launch(request("one", *both, count=2))
    check(await cloud.launch(request("one", *both, count=2)), 2)
    assert len(names()) == moto.calls()["CreateLaunchTemplate"] == 1
    ec2.create_launch_template(LaunchTemplateName="vk-provider-x", LaunchTemplateData={"InstanceType": "m7i.large"})
    assert await cloud._templates.sweep() == 0 and len(names()) == 2
    monkeypatch.setattr(cloud._templates, "_keep_s", -1.0)
    assert await cloud._templates.sweep() == 1 and names() == ["vk-provider-x"]
    check(await cloud.launch(request("two", *both, count=2)), 2)


async def test_a_template_that_was_swept_under_a_launch_is_made_again(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    both = [offering(account), offering(account, "c7i.large")]
    code = "InvalidLaunchTemplateName.NotFoundException"
    moto.plan(Plan(rules=(Rule("CreateFleet", code, times=2),)))
    check(await cloud.launch(request("one", *both, count=2)), 2)


OPTIONS: dict[str, dict[str, str]] = {
    "unknown": {"colour": "red"},
    "subnet": {"subnet": "10.0.0.0/8"},
    "image": {"image": "windows"},
    "security-groups": {"security-groups": "sg-0123456789abcdef0,mine"},
    "instance-profile": {"instance-profile": "a b"},
    "root-volume-throughput": {"root-volume-throughput": "1"},
    "root-volume-iops": {"root-volume-iops": "many"},
}


@pytest.mark.parametrize("name", OPTIONS)
async def test_an_option_that_is_unknown_or_wrong_is_refused(cloud: AwsCloud, account: Account, name: str) -> None:
    with pytest.raises(CloudRequestError, match=name):
        await cloud.launch(request("x", offering(account), options=OPTIONS[name]))
    assert await list_owned(cloud) == []


async def test_options_of_a_request_replace_the_settings(cloud: AwsCloud, moto: MotoServer, account: Account) -> None:
    ec2, iam = moto.client("ec2"), moto.client("iam")
    iam.create_instance_profile(InstanceProfileName="special")
    group = ec2.create_security_group(GroupName="other", Description="o", VpcId=account.vpc_id)["GroupId"]
    image = ec2.register_image(Name="own", Architecture="x86_64", RootDeviceName="/dev/sda1", VirtualizationType="hvm")
    options = {
        "subnet": account.subnets[1],
        "image": image["ImageId"],
        "security-groups": group,
        "instance-profile": "special",
        "root-volume-throughput": "250",
        "root-volume-iops": "4000",
    }
    zones = [offering(account, zone=0), offering(account, zone=1)]
    answer = await cloud.launch(request("options", *zones, options=options))
    check(answer, 1)
    (found,) = ec2.describe_instances(InstanceIds=[answer.instances[0].instance_id])["Reservations"][0]["Instances"]
    (interface,) = found["NetworkInterfaces"]
    assert (found["ImageId"], interface["SubnetId"]) == (image["ImageId"], account.subnets[1])
    assert [each["GroupId"] for each in interface["Groups"]] == [group]
    assert found["BlockDeviceMappings"][0]["DeviceName"] == "/dev/sda1"
    with pytest.raises(CloudRequestError, match="IdempotentParameterMismatch"):
        await cloud.launch(request("options", *zones))
    with pytest.raises(CloudRequestError, match="no instance can be launched"):
        await cloud.launch(request("elsewhere", zones[0], options=options))


async def test_an_image_may_be_named_by_a_parameter_and_must_be_of_the_architecture(
    moto: MotoServer, account: Account
) -> None:
    ssm = moto.client("ssm")
    ssm.put_parameter(Name="/images/amd64", Value=account.image_amd64, Type="String")
    async with started(moto, account, image_amd64="resolve:ssm:/images/amd64") as cloud:
        check(await cloud.launch(request("ssm", offering(account))), 1)
    for image, said in ((account.image_arm64, "not for amd64"), ("resolve:ssm:/nowhere", "ParameterNotFound")):
        with pytest.raises(BadStartError, match=said):
            async with started(moto, account, image_amd64=image):
                pass


async def test_a_start_says_what_the_account_does_not_have(moto: MotoServer, account: Account) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"subnets": ("subnet-00000000",)}, "InvalidSubnetID.NotFound"),
        ({"image_amd64": "ami-00000000000000000"}, "InvalidAMIID.NotFound"),
    ]
    for more, said in wrong:
        with pytest.raises(BadStartError, match=said):
            async with started(moto, account, **more):
                pass
    moto.plan(Plan(rules=(Rule("DescribeSubnets", "Unavailable", status=503, times=2),)))
    async with started(moto, account) as cloud:
        assert await list_owned(cloud) == [], "an account that does not answer is asked again"


async def test_what_is_listed_late_is_known_from_the_launch_itself(moto: MotoServer, account: Account) -> None:
    moto.plan(Plan(lag_s=1.0, pending_s=0.1))
    both = [offering(account), offering(account, "c7i.large")]
    async with started(moto, account, listing_lag_s=5.0) as cloud:
        answer = await cloud.launch(request("late", *both, count=2))
        assert len(answer.instances) == 2 and {i.state for i in answer.instances} == {InstanceState.PENDING}
        assert {i.tags["vk-provider/owner"] for i in answer.instances} == {OWNER}
        assert {(i.zone, i.instance_type) for i in answer.instances} == {(account.zones[0], "m7i.large")}
        assert await list_owned(cloud) == [] == await cloud.describe([i.instance_id for i in answer.instances])
        await asyncio.sleep(1.2)
        listed = await list_owned(cloud)
        assert {i.instance_id for i in listed} == {i.instance_id for i in answer.instances}
        assert all(i.primary_ip and i.pod_ip for i in listed)


async def test_the_runtime_names_the_images_that_parameters_hold(moto: MotoServer, account: Account) -> None:
    moto.client("ssm").put_parameter(Name="/vk/image", Value=account.image_amd64, Type="String")
    settings = {"image_amd64": "resolve:ssm:/vk/image", "image_arm64": account.image_arm64}
    async with started(moto, account, **settings) as cloud:
        assert (await cloud.describe_runtime()).images == (account.image_amd64, account.image_arm64)


async def test_burstable_types_have_unlimited_credits_by_either_call_also_in_a_fleet_with_others(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    traits = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
    burstable, plain = replace(offering(account, "t3.small"), traits=traits), offering(account)
    one = await cloud.launch(request("one", burstable))
    check(one, 1)
    moto.plan(Plan(shortages=(Shortage("t3.small/*", room=2),)))
    mixed = await cloud.launch(request("mixed", burstable, plain, count=3))
    assert sorted(each.instance_type for each in mixed.instances) == ["m7i.large", "t3.small", "t3.small"]
    assert [failure.offering for failure in mixed.failures] == [burstable]
    instances = [*one.instances, *mixed.instances]
    said = moto.client("ec2").describe_instance_credit_specifications(
        InstanceIds=[each.instance_id for each in instances]
    )
    found = {each["InstanceId"]: each["CpuCredits"] for each in said["InstanceCreditSpecifications"]}
    assert found == {
        each.instance_id: "unlimited" if each.instance_type == "t3.small" else "standard" for each in instances
    }


async def test_mixed_fleets_make_their_templates_again_when_one_is_gone(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    traits = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
    both = replace(offering(account, "t3.small"), traits=traits), offering(account)
    gone = Rule("CreateFleet", "InvalidLaunchTemplateName.NotFoundException", times=1)
    moto.plan(Plan(rules=(gone,)))
    check(await cloud.launch(request("again", *both, count=2)), 2)


async def test_moto_refuses_credits_for_a_type_that_has_none_as_ec2_does(moto: MotoServer, account: Account) -> None:
    with pytest.raises(ClientError, match=r"InstanceCreditSpecification\.NotSupported"):
        moto.client("ec2").run_instances(
            ImageId=account.image_amd64,
            InstanceType="m7i.large",
            MinCount=1,
            MaxCount=1,
            SubnetId=account.subnets[0],
            CreditSpecification={"CpuCredits": "unlimited"},
        )
