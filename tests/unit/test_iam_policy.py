"""The provider's policy allows what the provider asks for, not the same without our tag, nor with what is another's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.iam.needs import Needs
from tests.iam.policy import Need, Policy, read_provider_policy
from tests.unit.cloud.test_aws_parts import FLEET, RUN, SETTINGS, SUBNETS, offering, plan
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.specification import LaunchPlan, Override, build_fleet, build_run, build_tags, build_template
from vk_provider.cloud.aws.stores.specification import BuilderLaunch, build_builder
from vk_provider.cloud.aws.stores.volume import StoreVolume
from vk_provider.cloud.base import TAG_OWNER
from vk_provider.wire.bootdata import BootData

OURS, OTHERS = {TAG_OWNER: "us"}, {TAG_OWNER: "them"}
TAGS = {
    f"{kind}-{whose}": tags
    for kind in ("i", "eni", "lt", "snap", "vol")
    for whose, tags in (("1", OURS), ("2", OTHERS))
}
TAGS |= {"i-3": {}}


@pytest.fixture
def needs() -> Needs:
    return Needs(TAGS.get)


def refused(needs: Needs, name: str, parameters: Any, service: str = "ec2") -> list[Need]:
    policy = read_provider_policy("us")
    return [need for need in needs.of(service, name, parameters) if not policy.allows(need)]


def our_plan(capacity_type: str = "on-demand", store: StoreVolume | None = None) -> LaunchPlan:
    settings = replace(SETTINGS, security_groups=("sg-00000001",))
    made = plan(Override(offering(capacity_type=capacity_type), SUBNETS[0]), settings=settings)
    user_data = BootData("CA", "00ff").to_user_data()
    return replace(made, request=replace(made.request, tags={"b": "2", **OURS}, user_data=user_data), store=store)


def builder() -> dict[str, Any]:
    launch = BuilderLaunch(ImageFacts("ami-1", "amd64", "/dev/xvda", 8), OURS, "order", 20, "token")
    return build_builder(SETTINGS, launch, offering(), SUBNETS[0])


LAUNCHES = {
    "on-demand": lambda: build_run(our_plan(), RUN, SETTINGS),
    "spot": lambda: build_run(our_plan("spot"), RUN, SETTINGS),
    "prepared": lambda: build_run(our_plan(store=StoreVolume("snap-1", "n", 12)), RUN, SETTINGS),
    "builder": builder,
}


@pytest.mark.parametrize("kind", LAUNCHES)
def test_a_launch_is_allowed_only_with_our_tag_on_everything_that_it_makes(needs: Needs, kind: str) -> None:
    parameters = LAUNCHES[kind]()
    assert refused(needs, "RunInstances", parameters) == []
    for number, each in enumerate(parameters["TagSpecifications"]):
        for tags in ([], build_tags(OTHERS)):
            changed = copy.deepcopy(parameters)
            changed["TagSpecifications"][number]["Tags"] = tags
            assert {need.action for need in refused(needs, "RunInstances", changed)} >= {"ec2:CreateTags"}, each
    untagged = {**parameters, "TagSpecifications": []}
    made = {need.resource.split(":")[-1].partition("/")[0] for need in refused(needs, "RunInstances", untagged)}
    assert made == {each["ResourceType"] for each in parameters["TagSpecifications"]}


def test_a_fleet_is_allowed_only_from_our_templates_and_as_ours(needs: Needs) -> None:
    asked = our_plan()
    template = {
        "LaunchTemplateName": "t",
        "LaunchTemplateData": build_template(asked, FLEET, SETTINGS),
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": build_tags(OURS)}],
    }
    assert refused(needs, "CreateLaunchTemplate", template) == []
    fleet = build_fleet(asked, {False: "t"}, FLEET, SETTINGS)
    assert refused(needs, "CreateFleet", fleet) == []
    assert refused(needs, "CreateFleet", {**fleet, "TagSpecifications": []}) != []
    others = {**template, "TagSpecifications": [{"ResourceType": "launch-template", "Tags": build_tags(OTHERS)}]}
    assert refused(needs, "CreateLaunchTemplate", others) != []
    assert refused(needs, "CreateFleet", fleet) != [], "the template is another's now"


@pytest.mark.parametrize(
    ("name", "key", "kind", "is_list"),
    [
        ("TerminateInstances", "InstanceIds", "i", True),
        ("StopInstances", "InstanceIds", "i", True),
        ("StartInstances", "InstanceIds", "i", True),
        ("GetConsoleOutput", "InstanceId", "i", False),
        ("AssignPrivateIpAddresses", "NetworkInterfaceId", "eni", False),
        ("AssignIpv6Addresses", "NetworkInterfaceId", "eni", False),
        ("DeleteLaunchTemplate", "LaunchTemplateId", "lt", False),
        ("DeleteSnapshot", "SnapshotId", "snap", False),
    ],
)
def test_what_is_anothers_is_not_touched(needs: Needs, name: str, key: str, kind: str, is_list: bool) -> None:
    def ask(each: str) -> list[Need]:
        return refused(needs, name, {key: [each] if is_list else each})

    assert ask(f"{kind}-1") == [] and len(ask(f"{kind}-2")) == 1
    if kind == "i":
        assert len(ask("i-3")) == 1, "one without any tag"


def test_a_snapshot_is_made_of_our_volumes_and_as_ours(needs: Needs) -> None:
    specification = [{"ResourceType": "snapshot", "Tags": build_tags(OURS)}]
    ours = {"VolumeId": "vol-1", "TagSpecifications": specification}
    assert refused(needs, "CreateSnapshot", ours) == []
    assert refused(needs, "CreateSnapshot", {**ours, "VolumeId": "vol-2"}) != []
    assert refused(needs, "CreateSnapshot", {**ours, "TagSpecifications": []}) != []


def test_tags_are_put_on_our_instances_alone_and_none_is_given_away_or_taken_over(needs: Needs) -> None:
    def tag(instance_id: str, **tags: str) -> list[Need]:
        return refused(needs, "CreateTags", {"Resources": [instance_id], "Tags": build_tags(tags)})

    assert tag("i-1", a="b") == [] and tag("i-1", **OURS) == []
    assert tag("i-1", **OTHERS) != [] and tag("i-2", a="b") != [] and tag("i-3", **OURS) != []


def test_other_queues_and_clusters_are_not_ours(needs: Needs) -> None:
    for service, name, key, value in (
        ("sqs", "DeleteMessageBatch", "QueueUrl", "https://sqs/1/{}"),
        ("eks-auth", "AssumeRoleForPodIdentity", "clusterName", "{}"),
    ):
        mine = "QUEUE" if service == "sqs" else "CLUSTER"
        assert refused(needs, name, {key: value.format(mine)}, service) == []
        assert len(refused(needs, name, {key: value.format("other")}, service)) == 1


def test_a_condition_that_is_not_evaluated_here_is_an_error() -> None:
    statement = {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"StringLike": {"x": "*"}}}
    with pytest.raises(NotImplementedError, match="StringLike"):
        Policy([statement]).allows(Need("a:b"))
