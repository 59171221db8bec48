"""The pure parts of the EC2 cloud."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from vk_provider.cloud.aws import specification
from vk_provider.cloud.aws.answers import DescribedInstance, Fleet, parse_instance
from vk_provider.cloud.aws.fleet import find_failures, read_instances
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.instancestore import add_store
from vk_provider.cloud.aws.ipv6 import find_ipv6
from vk_provider.cloud.aws.notices import parse_notices
from vk_provider.cloud.aws.options import read_options
from vk_provider.cloud.aws.settings import AwsCloudSettings, find_problem
from vk_provider.cloud.aws.specification import (
    LaunchPlan,
    Override,
    build_fleet,
    build_run,
    build_template,
    name_template,
)
from vk_provider.cloud.aws.stores.volume import StoreVolume
from vk_provider.cloud.aws.ways import Address, Call, Refusals, Way, plan_ways, token_of
from vk_provider.cloud.base import (
    TAG_DISKS,
    TAG_IMAGE_STORE,
    InstanceState,
    LaunchRequest,
    LocalStore,
    MachineTraits,
    NoticeKind,
    Offering,
)
from vk_provider.cloud.volumes import VolumeSpeed
from vk_provider.errors import CapacityError, CloudRequestError
from vk_provider.wire.bootdata import BootData

GIB = 2**30
SUBNETS = ("subnet-0000000a", "subnet-0000000b")
SETTINGS = AwsCloudSettings(subnets=SUBNETS, image_amd64="ami-00000001")
RUN, FLEET, AFTER = Way(Call.RUN, Address.IN_CALL), Way(Call.FLEET, Address.IN_CALL), Way(Call.RUN, Address.AFTER)


def offering(instance_type: str = "m7i.large", zone: str = "z-a", capacity_type: str = "on-demand") -> Offering:
    return Offering(instance_type, zone, capacity_type, "amd64", 2000, 8 << 30, 0.1)


def plan(*overrides: Override, count: int = 1, settings: AwsCloudSettings = SETTINGS, **options: str) -> LaunchPlan:
    request = LaunchRequest("token", tuple(each.offering for each in overrides), {"b": "2", "a": "1"}, "data", count)
    image = ImageFacts("ami-00000001", "amd64", "/dev/xvda", 40)
    return LaunchPlan(request, overrides, image, read_options(options, settings))


@pytest.mark.parametrize(
    ("choice", "count", "overrides", "expected"),
    [
        ("auto", 1, 1, "rc ra"),
        ("auto", 2, 1, "rc fc ra"),
        ("auto", 1, 2, "fc fa"),
        ("auto", 9, 60, "fc fa"),
        ("prefix", 1, 1, "rp ra"),
        ("prefix", 3, 3, "fp fa"),
        ("assign", 1, 1, "ra"),
        ("assign", 3, 2, "fa"),
    ],
)
def test_ways_are_tried_in_order(choice: Any, count: int, overrides: int, expected: str) -> None:
    assert " ".join("".join(way) for way in plan_ways(choice, count, overrides)) == expected


def test_with_ipv6_the_last_way_has_no_address_in_the_call() -> None:
    shown = ["".join(way) for way in plan_ways("auto", 2, 1, ipv6=True)]
    assert shown == ["rc", "fc", "ra", "rb"]
    account = plan(Override(offering(), SUBNETS[0]))
    dual = replace(account, ipv6=True, request=replace(account.request, user_data=BootData("ca", "00").to_user_data()))
    for made in (build_run(dual, RUN, SETTINGS), build_template(dual, AFTER, SETTINGS)):
        (interface,) = made["NetworkInterfaces"]
        assert (interface["Ipv6AddressCount"], interface["PrimaryIpv6"]) == (2, True)
    for made in (build_run(account, RUN, SETTINGS), build_run(dual, Way(Call.RUN, Address.BARE), SETTINGS)):
        assert "Ipv6AddressCount" not in made["NetworkInterfaces"][0]


def test_a_spot_request_has_our_tags_and_an_on_demand_launch_names_none() -> None:
    for capacity_type, expected in (("spot", True), ("on-demand", False)):
        made = build_run(plan(Override(offering(capacity_type=capacity_type), SUBNETS[0])), RUN, SETTINGS)
        kinds = [each["ResourceType"] for each in made["TagSpecifications"]]
        assert ("spot-instances-request" in kinds) is expected and len(set(kinds)) == len(kinds)


def test_the_tag_of_disks_has_the_sizes_that_volumes_get() -> None:
    asked = plan(Override(offering(), SUBNETS[0]))
    request = replace(asked.request, tags={TAG_DISKS: "root=1"}, disk_bytes=100 * GIB)
    assert replace(asked, request=request).tags == {TAG_DISKS: "root=100"}
    assert replace(asked, request=replace(request, disk_bytes=GIB)).tags == {TAG_DISKS: "root=40"}, "the image's"
    assert asked.tags == asked.request.tags
    stored = replace(asked, request=request, store=StoreVolume("snap-1", "n", 12))
    assert stored.tags == {TAG_DISKS: "root=100 data=12"}
    fast = plan(Override(offering(), SUBNETS[0]), **{"root-volume-iops": "4000", "root-volume-throughput": "250"})
    store = StoreVolume("snap-1", "n", 12, VolumeSpeed(5000, 0))
    assert replace(fast, request=request, store=store).tags == {
        TAG_DISKS: "root=100 data=12 root-iops=4000 root-mib-s=250 data-iops=5000"
    }


def test_an_instance_that_does_not_get_the_store_has_no_tag_of_it() -> None:
    asked = plan(Override(offering(), SUBNETS[0]))
    request = replace(asked.request, tags={TAG_IMAGE_STORE: "snap-1", "a": "1"}, image_store="snap-1")
    assert replace(asked, request=request).tags == {"a": "1"}, "it is of another architecture, or gone"
    stored = replace(asked, request=request, store=StoreVolume("snap-1", "n", 12))
    assert stored.tags == request.tags
    for made in (build_run(replace(asked, request=request), RUN, SETTINGS),):
        assert all("snap-1" not in str(each["Tags"]) for each in made["TagSpecifications"])


def test_a_way_that_was_refused_for_many_is_still_tried_for_one_and_the_last_is_always_left() -> None:
    refusals = Refusals()
    refusals.add(RUN, 3)
    assert refusals.left(plan_ways("auto", 1, 1), 1) == (RUN, AFTER)
    assert refusals.left(plan_ways("auto", 7, 1), 7) == (FLEET, AFTER)


def test_tokens_differ_by_way_and_by_calls_that_brought_nothing_and_are_short() -> None:
    tokens = {token_of("t" * 60, way, emptied) for way in (RUN, FLEET, AFTER) for emptied in range(20)}
    assert len(tokens) == 60 and all(len(each) <= 64 and each.isascii() for each in tokens)
    assert token_of("t", RUN) == token_of("t", RUN) != token_of("u", RUN)


def test_the_parameters_of_a_launch_follow_the_rules_whatever_the_call() -> None:
    both = [Override(offering(), SUBNETS[0]), Override(offering(zone="z-b"), SUBNETS[1])]
    run = build_run(plan(both[0]), RUN, SETTINGS)
    template = build_template(plan(*both), FLEET, SETTINGS)
    for data in (run, template):
        assert data["MetadataOptions"] == {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": "disabled",
            "InstanceMetadataTags": "disabled",
        }
        (volume,) = data["BlockDeviceMappings"]
        assert volume["DeviceName"] == "/dev/xvda" and volume["Ebs"]["Encrypted"] is True
        assert volume["Ebs"]["VolumeSize"] == 40, "at least what the image has"
        assert data["InstanceInitiatedShutdownBehavior"] == "terminate" and "KeyName" not in data
        assert [each["ResourceType"] for each in data["TagSpecifications"]] == [
            "instance",
            "volume",
            "network-interface",
        ]
        assert data["NetworkInterfaces"][0]["SecondaryPrivateIpAddressCount"] == 1
    assert (run["MinCount"], run["MaxCount"], run["UserData"]) == (1, 1, "data")
    assert template["UserData"] == "ZGF0YQ==", "a template takes base64, and the SDK encodes RunInstances' own"
    assert "SubnetId" not in template["NetworkInterfaces"][0]


def test_a_fleet_asks_for_the_lowest_price_on_demand_and_for_deep_capacity_on_spot() -> None:
    on_demand = build_fleet(plan(Override(offering(), SUBNETS[0]), count=3), {False: "t"}, FLEET, SETTINGS)
    assert on_demand["OnDemandOptions"] == {"AllocationStrategy": "lowest-price"} and "SpotOptions" not in on_demand
    limited = replace(SETTINGS, spot_max_price=0.5)
    spot = build_fleet(plan(Override(offering(capacity_type="spot"), SUBNETS[0])), {False: "t"}, FLEET, limited)
    assert spot["SpotOptions"] == {"AllocationStrategy": "price-capacity-optimized"}
    assert spot["LaunchTemplateConfigs"][0]["Overrides"][0]["MaxPrice"] == "0.50000"
    assert spot["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "spot"


STORE = MachineTraits(store_bytes=970 * 10**9)


def stored_plan(*overrides: Override, count: int = 1) -> LaunchPlan:
    """120 GiB are needed; the root volume has 50 where the type's own disks hold them."""
    user_data = BootData("CA", "00ff", registries={"docker.io": {}}).to_user_data()
    made = plan(*overrides, count=count)
    store = LocalStore(120 * GIB, 50 * GIB)
    return replace(made, request=replace(made.request, user_data=user_data, disk_bytes=120 * GIB, local_store=store))


def sizes(mappings: Any) -> list[int]:
    return [each["Ebs"]["VolumeSize"] for each in mappings]


def test_a_root_volume_is_small_where_the_types_own_disks_hold_the_rest() -> None:
    small = Override(replace(offering("m6id.4xlarge"), traits=STORE), SUBNETS[0])
    large = Override(offering("m7i.large"), SUBNETS[0])
    for override, gib in ((small, 50), (large, 120)):
        run = build_run(stored_plan(override), RUN, SETTINGS)
        assert sizes(run["BlockDeviceMappings"]) == [gib]
        assert BootData.from_user_data(run["UserData"]).extra == {"instanceStore": {"leastBytes": 120 * GIB}}
        assert BootData.from_user_data(run["UserData"]).registries == {"docker.io": {}}
    both = stored_plan(small, large, count=3)
    assert sizes(build_template(both, FLEET, SETTINGS)["BlockDeviceMappings"]) == [50]
    fleet = build_fleet(both, {False: "t"}, FLEET, SETTINGS)
    first, second = fleet["LaunchTemplateConfigs"][0]["Overrides"]
    assert "BlockDeviceMappings" not in first and sizes(second["BlockDeviceMappings"]) == [120]
    assert second["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert fleet["OnDemandOptions"] == {"AllocationStrategy": "prioritized"}, "EC2 does not know what volumes cost"
    assert [first["Priority"], second["Priority"]] == [0.0, 1.0]
    alike = build_fleet(stored_plan(small, small), {False: "t"}, FLEET, SETTINGS)
    assert alike["OnDemandOptions"] == {"AllocationStrategy": "lowest-price"}


def test_disks_are_only_asked_for_with_boot_data_and_a_policy_that_there_is() -> None:
    with pytest.raises(CloudRequestError, match="need boot data"):
        add_store("hello", 1)
    assert read_options({"instance-store-policy": "none"}, SETTINGS) == read_options({}, SETTINGS)
    read_options({"instance-store-policy": "raid0"}, SETTINGS)
    for settings, value in ((SETTINGS, "raid5"), (replace(SETTINGS, instance_store_policy="none"), "raid0")):
        with pytest.raises(CloudRequestError, match="instance-store-policy"):
            read_options({"instance-store-policy": value}, settings)


def test_the_name_of_a_template_is_its_content() -> None:
    data = [
        build_template(plan(Override(offering(), SUBNETS[0]), **options), way, SETTINGS)
        for options in ({}, {"image": ""}, {"root-volume-iops": "4000"})
        for way in (FLEET, AFTER)
    ]
    names = [name_template(each, "p") for each in data]
    assert names[0] == names[2] and len(set(names)) == 4 and all(len(name) <= 128 for name in names)
    assert specification.build_tags({"b": "2", "a": "1"}) == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]


def test_options_take_the_place_of_settings() -> None:
    settings = replace(SETTINGS, security_groups=("sg-00000001",), instance_profile="plain")
    plain = read_options({}, settings)
    assert (plain.security_groups, plain.instance_profile, plain.throughput) == (("sg-00000001",), "plain", 125)
    groups = read_options({"security-groups": "sg-00000002, sg-00000003"}, settings).security_groups
    assert groups == ("sg-00000002", "sg-00000003")
    for bad in ("124", "2001", "1e3", "-5", "٢٠٠", "9" * 30):
        with pytest.raises(CloudRequestError, match="root-volume-throughput"):
            read_options({"root-volume-throughput": bad}, settings)


def described(**more: Any) -> DescribedInstance:
    raw = {
        "InstanceId": "i-0001",
        "State": {"Name": "running", "Code": 16},
        "InstanceType": "m7i.large",
        "Placement": {"AvailabilityZone": "z-a", "Tenancy": "default"},
        "Architecture": "x86_64",
        "PrivateIpAddress": "10.0.0.4",
        "LaunchTime": datetime(2026, 1, 1, tzinfo=UTC),
        "Tags": [{"Key": "a", "Value": "b"}, {"Key": "aws:ec2:fleet-id", "Value": "fleet-1"}],
        "NetworkInterfaces": [
            {
                "NetworkInterfaceId": "eni-2",
                "Attachment": {"DeviceIndex": 1},
                "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.9.9", "Primary": True}],
            },
            {
                "NetworkInterfaceId": "eni-1",
                "Attachment": {"DeviceIndex": 0},
                "PrivateIpAddresses": [
                    {"PrivateIpAddress": "10.0.0.4", "Primary": True},
                    {"PrivateIpAddress": "10.0.0.7", "Primary": False},
                ],
            },
        ],
        "SomethingNew": {"x": 1},
    }
    return msgspec.convert({**raw, **more}, DescribedInstance)


def test_an_answer_becomes_an_instance() -> None:
    found = parse_instance(described())
    assert (found.instance_id, found.state, found.capacity_type) == ("i-0001", InstanceState.RUNNING, "on-demand")
    assert (found.primary_ip, found.pod_ip, found.architecture) == ("10.0.0.4", "10.0.0.7", "amd64")
    assert found.tags == {"a": "b"} and found.launch_time == 1767225600.0
    assert parse_instance(described(InstanceLifecycle="spot")).capacity_type == "spot"
    ended = parse_instance(described(State={"Name": "terminated"}, StateReason={"Code": "c", "Message": "m"}))
    assert (ended.host_ips, ended.pod_ips, ended.state_reason) == ((), (), "m")
    prefixed = {
        "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.4", "Primary": True}],
        "Ipv4Prefixes": [{"Ipv4Prefix": "10.0.1.16/28"}],
    }
    assert parse_instance(described(NetworkInterfaces=[prefixed])).pod_ip == "10.0.1.16"
    assert parse_instance(described(NetworkInterfaces=[], PrivateIpAddress="")).pod_ips == ()


def test_the_primary_ipv6_address_is_the_instances_and_another_one_the_pods() -> None:
    def found(*addresses: dict[str, Any], more: tuple[str, ...] = (), own: str = "") -> tuple[str, str]:
        interface = {"Attachment": {"DeviceIndex": 0}, "Ipv6Addresses": list(addresses)}
        return find_ipv6(described(NetworkInterfaces=[interface], Ipv6Address=own), more)

    plain, marked = {"Ipv6Address": "2001:db8::1"}, {"Ipv6Address": "2001:db8::2", "IsPrimaryIpv6": True}
    assert found(plain, marked) == found(marked, plain) == ("2001:db8::2", "2001:db8::1")
    assert found(plain, {"Ipv6Address": "2001:db8::3"}, own="2001:db8::3") == ("2001:db8::3", "2001:db8::1")
    assert found(plain, more=("2001:db8::4",)) == ("2001:db8::1", "2001:db8::4")
    assert found(more=("2001:db8::4", "2001:db8::5")) == ("2001:db8::4", "2001:db8::5")
    assert found() == found(marked) == ("", ""), "an instance with one address has none for its pod"


@pytest.mark.parametrize(
    ("state", "words", "ended_at"),
    [
        ("terminated", "User initiated (2026-11-29 10:00:00 GMT)", 1795946400.0),
        ("stopped", "User initiated (2026-11-29 10:00:00 UTC)", 1795946400.0),
        ("shutting-down", "User initiated (2026-11-29 10:00:00 GMT)", 1795946400.0),
        ("running", "User initiated (2026-11-29 10:00:00 GMT)", 0.0),
        ("pending", "", 0.0),
        ("terminated", "", 0.0),
        ("terminated", "Server.SpotInstanceTermination", 0.0),
        ("terminated", "User initiated", 0.0),
        ("terminated", "User initiated (2026-13-29 10:00:00 GMT)", 0.0),
    ],
)
def test_the_end_of_an_instance_is_when_aws_says_that_it_began_to_stop(state: str, words: str, ended_at: float) -> None:
    found = parse_instance(described(State={"Name": state}, StateTransitionReason=words))
    assert found.ended_at == ended_at


@pytest.mark.parametrize("more", [{"State": {"Name": "dancing"}}, {"State": {}}, {"InstanceId": 5}, {"Tags": "x"}])
def test_an_answer_that_is_not_of_its_shape_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        described(**more)


def error(code: str, subnet: str, instance_type: str = "m7i.large") -> dict[str, Any]:
    where = {"Overrides": {"InstanceType": instance_type, "SubnetId": subnet}}
    return {"ErrorCode": code, "ErrorMessage": "m", "LaunchTemplateAndOverrides": where}


def test_a_fleets_errors_are_those_of_its_offerings_in_their_order() -> None:
    first, second = offering(), offering("c7i.large")
    overrides = [Override(each, subnet) for each in (first, second) for subnet in SUBNETS]
    full = "InsufficientFreeAddressesInSubnet"

    def failures(*errors: dict[str, Any]) -> list[tuple[str, str]]:
        fleet = msgspec.convert({"Errors": list(errors)}, Fleet)
        found = find_failures(fleet, plan(*overrides))
        return [(each.offering.instance_type, str(each.error).partition(":")[0]) for each in found]

    assert failures(error("Unsupported", SUBNETS[0], "c7i.large"), error("VcpuLimitExceeded", SUBNETS[1])) == [
        ("m7i.large", "VcpuLimitExceeded"),
        ("c7i.large", "Unsupported"),
    ]
    assert failures(error(full, SUBNETS[0])) == [], "the zone's other subnet has room"
    assert failures(error(full, SUBNETS[0]), error(full, SUBNETS[1])) == [("m7i.large", full)]
    both = failures(error(full, SUBNETS[0]), error("UnfulfillableCapacity", SUBNETS[1]))
    assert both == [("m7i.large", "UnfulfillableCapacity")]
    nowhere = msgspec.convert({"Errors": [{"ErrorCode": "Unsupported", "ErrorMessage": "m"}]}, Fleet)
    (failure,) = find_failures(nowhere, plan(*overrides))
    assert failure.offering == first and isinstance(failure.error, CapacityError)


def test_the_instances_of_a_fleet_are_of_the_offerings_that_it_names() -> None:
    overrides = [Override(offering(), SUBNETS[0]), Override(offering("c7i.large", "z-b"), SUBNETS[1])]
    groups = [
        {
            "InstanceIds": [f"i-{number}"],
            "InstanceType": each.offering.instance_type,
            "LaunchTemplateAndOverrides": {
                "Overrides": {"InstanceType": each.offering.instance_type, "SubnetId": each.subnet_id}
            },
        }
        for number, each in enumerate(overrides)
    ]
    fleet = msgspec.convert({"Instances": groups}, Fleet)
    found = read_instances(fleet, plan(*overrides, count=2), 5.0, dict(zip(SUBNETS, ("z-a", "z-b"), strict=True)).get)
    assert [(i.instance_id, i.instance_type, i.zone) for i in found] == [
        ("i-0", "m7i.large", "z-a"),
        ("i-1", "c7i.large", "z-b"),
    ]
    assert all(i.state is InstanceState.PENDING and not i.primary_ip and i.tags for i in found)


def test_a_scheduled_retirement_is_an_interruption_of_every_instance_it_names() -> None:
    ids = ["i-0123456789abcdef0", "vol-1", "i-0123456789abcdef1"]
    detail = {
        "service": "EC2",
        "eventTypeCategory": "scheduledChange",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "startTime": "Sat, 05 Dec 2026 15:00:00 GMT",
        "affectedEntities": [{"entityValue": each, "tags": {}} for each in ids],
    }
    body = {"source": "aws.health", "detail-type": "AWS Health Event", "detail": detail}
    found = parse_notices(json.dumps(body))
    assert [(each.kind, each.instance_id) for each in found] == [
        (NoticeKind.INTERRUPTION, ids[0]),
        (NoticeKind.INTERRUPTION, ids[2]),
    ]
    assert "RETIREMENT" in found[0].message and "05 Dec" in found[0].message
    other = {**body, "detail": {**detail, "service": "RDS"}}
    assert parse_notices(json.dumps(other)) == []
    for bad in ("", "{", "x" * 300_000, json.dumps({**body, "detail": {**detail, "startTime": "x" * 300}})):
        with pytest.raises(ValueError):
            parse_notices(bad)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"subnets": ()}, "subnets must name"),
        ({"subnets": ("vpc-1",)}, "subnets: 'vpc-1'"),
        ({"security_groups": ("default",)}, "security_groups: 'default'"),
        ({"image_amd64": ""}, "image_amd64 or image_arm64"),
        ({"image_arm64": "debian"}, "image_arm64 'debian'"),
        ({"launch_template_prefix": "a b"}, "launch_template_prefix"),
        ({"runtime_version": "2.1"}, "runtime_version"),
        ({}, ""),
        ({"image_amd64": "resolve:ssm:/aws/service/eks/x/image_id"}, ""),
    ],
)
def test_settings_that_cannot_work_are_named(more: dict[str, Any], said: str) -> None:
    assert find_problem(replace(SETTINGS, **more)).startswith(said) and bool(
        find_problem(replace(SETTINGS, **more))
    ) == bool(said)


BURSTABLE = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)


def test_burstable_types_are_launched_with_unlimited_credits_and_no_others() -> None:
    """EC2 refuses a credit specification for other types: InstanceCreditSpecification.NotSupported."""
    small = Override(replace(offering("t3.small"), traits=BURSTABLE), SUBNETS[0])
    large = Override(offering("m7i.large"), SUBNETS[0])
    unlimited = {"CpuCredits": "unlimited"}
    assert build_run(plan(small), RUN, SETTINGS)["CreditSpecification"] == unlimited
    assert "CreditSpecification" not in build_run(plan(large), RUN, SETTINGS)
    both = plan(small, large, Override(small.offering, SUBNETS[1]), count=3)
    assert both.kinds == (True, False) and plan(large).kinds == (False,)
    assert build_template(both, FLEET, SETTINGS, is_burstable=True)["CreditSpecification"] == unlimited
    assert "CreditSpecification" not in build_template(both, FLEET, SETTINGS)
    first, second = build_fleet(both, {True: "u", False: "t"}, FLEET, SETTINGS)["LaunchTemplateConfigs"]
    assert first["LaunchTemplateSpecification"]["LaunchTemplateName"] == "u"
    assert [(each["InstanceType"], each["SubnetId"]) for each in first["Overrides"]] == [
        ("t3.small", SUBNETS[0]),
        ("t3.small", SUBNETS[1]),
    ]
    assert second["LaunchTemplateSpecification"]["LaunchTemplateName"] == "t"
    assert [each["InstanceType"] for each in second["Overrides"]] == ["m7i.large"]
