"""Where moto is not as EC2, the patched server is: each gap beside the sentence of AWS's that fills it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.moto.plan import Bucket, Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer


class Ec2:
    """boto3 in the account."""

    def __init__(self, moto: MotoServer, account: Account) -> None:
        self.api, self.account, self.moto = moto.client("ec2"), account, moto

    def run(
        self, count: int = 1, nic: dict[str, Any] | None = None, zone: int = 0, **more: Any
    ) -> list[dict[str, Any]]:
        interface = {
            "DeviceIndex": 0,
            "SubnetId": self.account.subnets[zone],
            "DeleteOnTermination": True,
            **(nic or {}),
        }
        parameters = {
            "ImageId": self.account.image_amd64,
            "InstanceType": "m7i.large",
            "MinCount": 1,
            "MaxCount": count,
            "NetworkInterfaces": [interface],
            **more,
        }
        return self.api.run_instances(**parameters)["Instances"]

    def describe(self, **more: Any) -> list[dict[str, Any]]:
        return [i for r in self.api.describe_instances(**more)["Reservations"] for i in r["Instances"]]

    def fleet(self, overrides: list[dict[str, Any]], count: int, token: str = "", **data: Any) -> dict[str, Any]:
        name = f"t-{time.monotonic_ns()}"
        nic = {"DeviceIndex": 0, "DeleteOnTermination": True, **data.pop("nic", {})}
        self.api.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": self.account.image_amd64, "NetworkInterfaces": [nic], **data},
        )
        return self.create_fleet(name, overrides, count, token)

    def create_fleet(
        self, template: str, overrides: list[dict[str, Any]], count: int, token: str = ""
    ) -> dict[str, Any]:
        parameters = {
            "Type": "instant",
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "1"},
                    "Overrides": overrides,
                }
            ],
            "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": "on-demand"},
            **({"ClientToken": token} if token else {}),
        }
        return self.api.create_fleet(**parameters)

    def override(self, instance_type: str = "m7i.large", zone: int = 0) -> dict[str, str]:
        return {"InstanceType": instance_type, "SubnetId": self.account.subnets[zone]}


@pytest.fixture
def ec2(moto: MotoServer, account: Account) -> Any:
    return Ec2(moto, account)


def code_of(call: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_a_client_token_is_idempotent_and_refused_with_other_parameters(ec2: Ec2) -> None:
    """Ensuring idempotency in Amazon EC2 API requests."""
    first, again = ec2.run(ClientToken="t"), ec2.run(ClientToken="t")
    assert [i["InstanceId"] for i in first] == [i["InstanceId"] for i in again]
    assert code_of(lambda: ec2.run(ClientToken="t", InstanceType="m7i.xlarge")) == "IdempotentParameterMismatch"
    assert len(ec2.describe()) == 1
    (found,) = ec2.describe(Filters=[{"Name": "client-token", "Values": ["t"]}])
    assert found["InstanceId"] == first[0]["InstanceId"] and ec2.run()[0]["InstanceId"] != found["InstanceId"]


def test_a_fleet_that_brought_nothing_has_used_its_token_up(ec2: Ec2) -> None:
    """CreateFleet: the token stands for the fleet, which exists without instances as well."""
    ec2.moto.plan(Plan(shortages=(Shortage("*"),)))
    first = ec2.fleet([ec2.override()], 1, "t")
    ec2.moto.plan()
    assert not first.get("Instances")
    name = ec2.api.describe_launch_templates()["LaunchTemplates"][-1]["LaunchTemplateName"]
    again = ec2.create_fleet(name, [ec2.override()], 1, "t")
    assert again["FleetId"] == first["FleetId"] and not again.get("Instances")
    assert ec2.create_fleet(name, [ec2.override()], 1, "u")["Instances"]


def test_a_second_address_comes_with_the_launch_of_one_instance_and_not_of_several(ec2: Ec2) -> None:
    """InstanceNetworkInterfaceSpecification: "You cannot specify this option if you're launching more than one instance
    in a RunInstances request." """
    (one,) = ec2.run(nic={"SecondaryPrivateIpAddressCount": 1})
    addresses = one["NetworkInterfaces"][0]["PrivateIpAddresses"]
    assert [each["Primary"] for each in addresses] == [True, False]
    many = {"SecondaryPrivateIpAddressCount": 1}
    assert code_of(lambda: ec2.run(2, nic=many)) == "InvalidParameterCombination"
    assert len(ec2.describe()) == 1
    ec2.moto.plan(Plan(in_call=("one", "many")))
    assert len(ec2.run(2, nic=many)) == 2, "and where an account takes it, it is taken"
    refused = ec2.fleet([ec2.override()], 1, nic=many)
    assert [each["ErrorCode"] for each in refused["Errors"]] == ["InvalidParameterCombination"]


def test_a_prefix_is_sixteen_addresses_of_the_subnet(ec2: Ec2) -> None:
    first, second = ec2.run(2, nic={"Ipv4PrefixCount": 1})
    prefixes = [each["NetworkInterfaces"][0]["Ipv4Prefixes"][0]["Ipv4Prefix"] for each in (first, second)]
    assert len(set(prefixes)) == 2 and all(each.endswith("/28") for each in prefixes)


def test_assigned_addresses_are_the_subnets_own_and_the_answer_has_the_new_ones(ec2: Ec2) -> None:
    (instance,) = ec2.run()
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    answer = ec2.api.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    (assigned,) = [each["PrivateIpAddress"] for each in answer["AssignedPrivateIpAddresses"]]
    (found,) = ec2.describe()
    addresses = [each["PrivateIpAddress"] for each in found["NetworkInterfaces"][0]["PrivateIpAddresses"]]
    assert addresses == [instance["PrivateIpAddress"], assigned]


BLOCK = "2001:db8:1234:1a00::/56"


def test_ipv6_addresses_come_with_any_launch_and_the_first_one_is_the_primary_one(moto: MotoServer) -> None:
    """Ipv6AddressCount: "You can specify this option if you've specified a minimum number of instances to launch." """
    ec2 = Ec2(moto, moto.make_account(ipv6=BLOCK))
    nic = {"Ipv6AddressCount": 2, "PrimaryIpv6": True}
    (fleet,) = ec2.fleet([ec2.override()], 1, nic=nic)["Instances"]
    ids = [each["InstanceId"] for each in ec2.run(2, nic=nic)] + fleet["InstanceIds"]
    found = [each["NetworkInterfaces"][0]["Ipv6Addresses"] for each in ec2.describe(InstanceIds=ids)]
    assert [[each["IsPrimaryIpv6"] for each in addresses] for addresses in found] == 3 * [[True, False]]
    addresses = {each["Ipv6Address"] for of in found for each in of}
    assert len(addresses) == 6 and all(each.startswith("2001:db8:1234:1a00:") for each in addresses)
    moto.plan(Plan(ipv6_in_call=("one",)))
    assert code_of(lambda: ec2.run(2, nic=nic)) == "InvalidParameterCombination" and ec2.run(nic=nic)


def test_assigned_ipv6_addresses_are_the_new_ones_alone(moto: MotoServer) -> None:
    """AssignIpv6Addresses: "Existing IPv6 addresses that were assigned to the network interface before the request are
    not included." """
    ec2 = Ec2(moto, moto.make_account(ipv6=BLOCK))
    (instance,) = ec2.run(nic={"Ipv6AddressCount": 1})
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    first = [each["Ipv6Address"] for each in instance["NetworkInterfaces"][0]["Ipv6Addresses"]]
    added = ec2.api.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6AddressCount=2)["AssignedIpv6Addresses"]
    (found,) = ec2.describe()
    assert [each["Ipv6Address"] for each in found["NetworkInterfaces"][0]["Ipv6Addresses"]] == first + added
    assert len(first) == 1 and len(added) == 2


def test_a_subnet_without_an_ipv6_block_gives_no_ipv6_addresses(ec2: Ec2) -> None:
    assert code_of(lambda: ec2.run(nic={"Ipv6AddressCount": 1})) == "InvalidParameterValue"
    (subnet,) = ec2.api.describe_subnets(SubnetIds=[ec2.account.subnets[0]])["Subnets"]
    assert not subnet["Ipv6CidrBlockAssociationSet"]
    ec2.api.associate_subnet_cidr_block(SubnetId=subnet["SubnetId"], Ipv6CidrBlock="2001:db8::/64")
    ec2.api.modify_subnet_attribute(SubnetId=subnet["SubnetId"], AssignIpv6AddressOnCreation={"Value": True})
    (subnet,) = ec2.api.describe_subnets(SubnetIds=[ec2.account.subnets[0]])["Subnets"]
    (block,) = subnet["Ipv6CidrBlockAssociationSet"]
    assert (block["Ipv6CidrBlock"], block["Ipv6CidrBlockState"]["State"]) == ("2001:db8::/64", "associated")
    (instance,) = ec2.run()
    assert len(instance["NetworkInterfaces"][0]["Ipv6Addresses"]) == 1


def test_a_subnet_has_its_addresses_but_five_and_is_full_then(moto: MotoServer) -> None:
    """Subnet CIDR blocks: the first four and the last address are AWS's."""
    ec2 = Ec2(moto, moto.make_account(prefix=28))
    assert len(ec2.run(20)) == 11, "the largest possible number above MinCount"
    assert code_of(ec2.run) == "InsufficientFreeAddressesInSubnet"
    ec2.api.terminate_instances(InstanceIds=[ec2.describe()[0]["InstanceId"]])
    ec2.describe()
    assert ec2.run()


def test_capacity_and_quotas_bring_a_part_and_nothing_is_an_error(ec2: Ec2) -> None:
    ec2.moto.plan(Plan(shortages=(Shortage("m7i.large/*/on-demand/*", room=2),)))
    assert len(ec2.run(3)) == 2
    assert code_of(ec2.run) == "InsufficientInstanceCapacity"
    assert ec2.run(InstanceType="c7i.large"), "another type has room"
    ec2.moto.plan(Plan(max_vcpus={"r7i": 4}))
    assert len(ec2.run(3, InstanceType="r7i.large")) == 2
    assert code_of(lambda: ec2.run(InstanceType="r7i.large")) == "VcpuLimitExceeded"
    ec2.moto.plan(Plan(max_instances=5))
    assert code_of(ec2.run) == "InstanceLimitExceeded"


def test_faults_are_drawn_from_the_plans_seed(ec2: Ec2) -> None:
    def draw(seed: int) -> list[bool]:
        ec2.moto.plan(Plan(seed=seed, shortages=(Shortage("*", share=0.5),)))
        outcomes = []
        for _ in range(12):
            try:
                outcomes.append(bool(ec2.run()))
            except ClientError:
                outcomes.append(False)
        return outcomes

    first = draw(1)
    assert len(set(first)) == 2 and draw(1) == first and draw(2) != first


def test_unknown_types_images_profiles_and_filters_are_refused(ec2: Ec2) -> None:
    assert code_of(lambda: ec2.run(InstanceType="x9.huge")) == "InvalidParameterValue"
    assert code_of(lambda: ec2.run(ImageId="ami-00000000000000000")) == "InvalidAMIID.NotFound"
    assert code_of(lambda: ec2.run(IamInstanceProfile={"Name": "nobody"})) == "NoSuchEntity"
    assert code_of(lambda: ec2.describe(Filters=[{"Name": "colour", "Values": ["red"]}])) == "InvalidParameterValue"


@pytest.mark.parametrize("name", ["instance-lifecycle", "network-interface.subnet-id", "iam-instance-profile.arn"])
def test_filters_that_moto_lacks_are_there(ec2: Ec2, name: str) -> None:
    ec2.run()
    spot = {"MarketType": "spot"}
    ec2.run(InstanceMarketOptions=spot, zone=1)
    wanted = {"instance-lifecycle": "spot", "network-interface.subnet-id": ec2.account.subnets[1]}.get(name, "arn:x")
    found = ec2.describe(Filters=[{"Name": name, "Values": [wanted]}])
    assert len(found) == (0 if name.startswith("iam") else 1)


def test_a_page_is_counted_in_instances(ec2: Ec2) -> None:
    """DescribeInstances: MaxResults is 5 to 1000, and not allowed beside instance IDs."""
    ids = [each["InstanceId"] for each in ec2.run(7)]
    first = ec2.api.describe_instances(MaxResults=5)
    second = ec2.api.describe_instances(MaxResults=5, NextToken=first["NextToken"])
    pages = [[i["InstanceId"] for r in page["Reservations"] for i in r["Instances"]] for page in (first, second)]
    assert [len(page) for page in pages] == [5, 2] and sorted(sum(pages, [])) == sorted(ids)
    assert "NextToken" not in second
    assert code_of(lambda: ec2.describe(MaxResults=4)) == "InvalidParameterValue"
    assert code_of(lambda: ec2.describe(MaxResults=5, InstanceIds=ids)) == "InvalidParameterCombination"


def test_a_fleet_says_what_came_of_each_override(ec2: Ec2) -> None:
    ec2.moto.plan(Plan(shortages=(Shortage("m7i.large/*"), Shortage("c7i.large/*", room=1))))
    overrides = [ec2.override("x9.huge"), ec2.override(), ec2.override("c7i.large"), ec2.override("c7i.xlarge", 1)]
    fleet = ec2.fleet(overrides, 3)
    errors = {e["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"]: e["ErrorCode"] for e in fleet["Errors"]}
    assert errors == {
        "x9.huge": "InvalidParameterValue",
        "m7i.large": "InsufficientInstanceCapacity",
        "c7i.large": "InsufficientInstanceCapacity",
    }
    assert [(each["InstanceType"], len(each["InstanceIds"])) for each in fleet["Instances"]] == [
        ("c7i.large", 1),
        ("c7i.xlarge", 2),
    ]
    assert (
        code_of(lambda: ec2.create_fleet("nowhere", [ec2.override()], 1))
        == "InvalidLaunchTemplateName.NotFoundException"
    )


def test_instances_are_pending_and_shutting_down_for_a_while(ec2: Ec2) -> None:
    ec2.moto.plan(Plan(pending_s=0.3, shutdown_s=0.3))
    (instance,) = ec2.run()
    states = [ec2.describe()[0]["State"]["Name"]]
    time.sleep(0.35)
    states.append(ec2.describe()[0]["State"]["Name"])
    ec2.api.terminate_instances(InstanceIds=[instance["InstanceId"]])
    (found,) = ec2.describe()
    states.append(found["State"]["Name"])
    assert found["PrivateIpAddress"] == instance["PrivateIpAddress"], "its network works until it has ended"
    time.sleep(0.35)
    states.append(ec2.describe()[0]["State"]["Name"])
    assert states == ["pending", "running", "shutting-down", "terminated"]


def test_a_listing_lags_behind(ec2: Ec2) -> None:
    """Eventual consistency in the Amazon EC2 API."""
    ec2.moto.plan(Plan(lag_s=0.5))
    (instance,) = ec2.run()
    assert ec2.describe() == []
    assert code_of(lambda: ec2.describe(InstanceIds=[instance["InstanceId"]])) == "InvalidInstanceID.NotFound"
    time.sleep(0.6)
    ec2.api.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert [each["State"]["Name"] for each in ec2.describe()] == ["running"]
    time.sleep(0.6)
    assert [each["State"]["Name"] for each in ec2.describe()] == ["terminated"]


def test_a_protected_or_unknown_instance_fails_the_whole_termination(ec2: Ec2) -> None:
    first, second = (each["InstanceId"] for each in ec2.run(2))
    ec2.moto.plan(Plan(protected=(first,)))
    assert code_of(lambda: ec2.api.terminate_instances(InstanceIds=[second, first])) == "OperationNotPermitted"
    both = [second, "i-00000000000000000"]
    assert code_of(lambda: ec2.api.terminate_instances(InstanceIds=both)) == "InvalidInstanceID.NotFound"
    assert {each["State"]["Name"] for each in ec2.describe()} == {"running"}
    ec2.api.terminate_instances(InstanceIds=[second])
    ec2.api.terminate_instances(InstanceIds=[second])


def test_requests_and_resources_have_buckets_of_their_own(ec2: Ec2) -> None:
    """Request throttling for the Amazon EC2 API: two kinds of token buckets."""
    ec2.moto.plan(Plan(requests={"RunInstances": Bucket(2, 0.001)}))
    assert ec2.run() and ec2.run()
    assert code_of(ec2.run) == "RequestLimitExceeded"
    assert len(ec2.describe()) == 2, "other calls have another bucket"
    ec2.moto.plan(Plan(resources={"RunInstances": Bucket(10, 0.001)}))
    assert len(ec2.run(8)) == 8
    assert code_of(lambda: ec2.run(3)) == "RequestLimitExceeded"
    assert len(ec2.run(2)) == 2
    assert ec2.moto.throttled()["RunInstances"] == 2


def test_a_lost_answer_was_carried_out_and_an_injected_error_was_not(ec2: Ec2) -> None:
    ec2.moto.plan(Plan(rules=(Rule("RunInstances", "Unavailable", status=503, after=True, times=1),)))
    assert code_of(ec2.run) == "Unavailable"
    assert len(ec2.describe()) == 1
    ec2.moto.plan(Plan(rules=(Rule("Run*", "InternalError", status=500, times=1),)))
    assert code_of(ec2.run) == "InternalError"
    assert len(ec2.describe()) == 1 and ec2.run()


def test_an_instance_that_does_not_exist_has_no_tags(ec2: Ec2) -> None:
    tag = {"Key": "a", "Value": "b"}
    assert (
        code_of(lambda: ec2.api.create_tags(Resources=["i-00000000000000000"], Tags=[tag]))
        == "InvalidInstanceID.NotFound"
    )
    (instance,) = ec2.run()
    ec2.api.create_tags(Resources=[instance["InstanceId"]], Tags=[tag])
    assert ec2.describe()[0]["Tags"] == [tag]


def test_fifty_tags_are_the_limit_and_those_of_aws_do_not_count(ec2: Ec2) -> None:
    tags = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
    fleet = ec2.fleet([ec2.override()], 1, TagSpecifications=[{"ResourceType": "instance", "Tags": tags[:49]}])
    (instance_id,) = fleet["Instances"][0]["InstanceIds"]
    assert code_of(lambda: ec2.api.create_tags(Resources=[instance_id], Tags=tags)) == "TagLimitExceeded"
    ec2.api.create_tags(Resources=[instance_id], Tags=tags[:50])
    own = [tag for tag in ec2.describe()[0]["Tags"] if not tag["Key"].startswith("aws:")]
    assert len(own) == 50 and len(ec2.describe()[0]["Tags"]) > 50


def test_a_launch_has_what_was_asked_for(ec2: Ec2) -> None:
    tags = [
        {"ResourceType": kind, "Tags": [{"Key": "a", "Value": kind}]}
        for kind in ("instance", "volume", "network-interface")
    ]
    (run,) = ec2.run(TagSpecifications=tags, MetadataOptions={"HttpTokens": "required"})
    fleet = ec2.fleet([ec2.override()], 1, TagSpecifications=tags, MetadataOptions={"HttpTokens": "required"})
    for instance_id in (run["InstanceId"], fleet["Instances"][0]["InstanceIds"][0]):
        (found,) = ec2.describe(InstanceIds=[instance_id])
        assert {"Key": "a", "Value": "instance"} in found["Tags"]
        assert found["MetadataOptions"]["HttpTokens"] == "required"
        (interface,) = ec2.api.describe_network_interfaces(
            NetworkInterfaceIds=[found["NetworkInterfaces"][0]["NetworkInterfaceId"]]
        )["NetworkInterfaces"]
        assert interface["TagSet"] == [{"Key": "a", "Value": "network-interface"}]


# --- snapshots and consoles ------------------------------------------------------------------------------------------


def test_a_snapshot_is_pending_until_it_is_complete_and_is_listed_by_its_tags_in_pages(
    moto: MotoServer, account: Account
) -> None:
    """CreateSnapshot: "the snapshot ... status is pending until the snapshot is complete"; DescribeSnapshots: from 5 to
    1,000 MaxResults, with a token for the rest."""
    api = moto.client("ec2")
    moto.plan(Plan(snapshot_s=0.3))
    volume = api.create_volume(Size=4, AvailabilityZone=account.zones[0])["VolumeId"]
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "k", "Value": "v"}]}]
    made = [api.create_snapshot(VolumeId=volume, TagSpecifications=tags) for _ in range(7)]
    assert {each["State"] for each in made} == {"pending"} and made[0]["Tags"] == tags[0]["Tags"]
    asked = {"OwnerIds": ["self"], "Filters": [{"Name": "tag:k", "Values": ["v"]}], "MaxResults": 5}
    first = api.describe_snapshots(**asked)
    rest = api.describe_snapshots(**asked, NextToken=first["NextToken"])
    found = [each["SnapshotId"] for each in first["Snapshots"] + rest["Snapshots"]]
    assert found == [each["SnapshotId"] for each in made] and "NextToken" not in rest
    assert api.describe_snapshots(**{**asked, "Filters": [{"Name": "tag-key", "Values": ["x"]}]})["Snapshots"] == []
    time.sleep(0.35)
    assert {each["State"] for each in api.describe_snapshots(**asked)["Snapshots"]} == {"completed"}
    moto.set_snapshot(found[0], "error")
    assert api.describe_snapshots(**asked)["Snapshots"][0]["State"] == "error"
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        api.describe_snapshots(**{**asked, "MaxResults": 4})
    api.delete_snapshot(SnapshotId=found[0])
    for call in (api.delete_snapshot, lambda SnapshotId: api.describe_snapshots(SnapshotIds=[SnapshotId])):
        with pytest.raises(ClientError, match="InvalidSnapshot.NotFound"):
            call(SnapshotId=found[0])
    moto.plan(Plan(max_snapshots=6))
    with pytest.raises(ClientError, match="SnapshotLimitExceeded"):
        api.create_snapshot(VolumeId=volume)


def test_a_volume_of_a_launch_is_of_a_snapshot_that_exists_and_counts_in_the_accounts_limit(
    moto: MotoServer, account: Account
) -> None:
    ec2 = Ec2(moto, account)

    def mapping(snapshot_id: str) -> list[dict[str, Any]]:
        return [{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": snapshot_id, "VolumeSize": 4}}]

    with pytest.raises(ClientError, match=r"InvalidSnapshot\.NotFound"):
        ec2.run(BlockDeviceMappings=mapping("snap-0123456789abcdef0"))
    volume = ec2.api.create_volume(Size=4, AvailabilityZone=account.zones[0])["VolumeId"]
    snapshot = ec2.api.create_snapshot(VolumeId=volume)["SnapshotId"]
    (made,) = ec2.run(BlockDeviceMappings=mapping(snapshot))
    (shown,) = ec2.describe(InstanceIds=[made["InstanceId"]])
    assert [each["DeviceName"] for each in shown["BlockDeviceMappings"]] == ["/dev/sdf"]
    moto.plan(Plan(max_volumes=1))
    with pytest.raises(ClientError, match="VolumeLimitExceeded"):
        ec2.run(BlockDeviceMappings=mapping(snapshot))


def test_a_console_says_what_the_instance_has_written_at_once_where_it_is_of_nitro(
    moto: MotoServer, account: Account
) -> None:
    """GetConsoleOutput: "Latest: ... supported for instances built on the Nitro System"."""
    ec2 = Ec2(moto, account)
    (made,) = ec2.run()
    name = made["InstanceId"]
    assert ec2.api.get_console_output(InstanceId=name, Latest=True)["Output"] == ""
    moto.set_console(name, "a\nb\n")
    assert ec2.api.get_console_output(InstanceId=name, Latest=True)["Output"] == "a\nb\n"
    (old,) = ec2.run(InstanceType="t2.medium")
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        ec2.api.get_console_output(InstanceId=old["InstanceId"], Latest=True)
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        ec2.api.get_console_output(InstanceId="i-0123456789abcdef0")


def test_a_server_whose_test_is_killed_ends_and_leaves_nothing_behind() -> None:
    program = (
        "import time\n"
        "from tests.moto.server import MotoServer\n"
        "with MotoServer() as moto:\n"
        "    print(moto.catalogs, moto._process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory, pid = process.stdout.readline().split()
        (Path(directory) / "kept.json").touch()
        process.kill()
    deadline = time.monotonic() + 30
    while Path(directory).exists() or Path(f"/proc/{pid}/cmdline").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
