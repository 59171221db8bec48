"""What AWS asks IAM about each call of the provider: the actions, and the types of resources that the service
authorization reference lists for them.

What is created is authorized with the tags that the request gives it, and these again as CreateTags. What is there is
authorized with its own tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.iam.policy import Need

REGION, ACCOUNT = "eu-central-1", "123456789012"
Parameters = Mapping[str, Any]
TagsOf = Callable[[str], Mapping[str, str] | None]
"""ID -> tags; None for what does not exist, which nobody needs a permission for."""
_OF_AWS = ("image", "snapshot")
"""Types whose ARN names no account."""
_CREATED = ("instance", "network-interface", "volume")
_ON_INSTANCES = ("TerminateInstances", "StopInstances", "StartInstances", "GetConsoleOutput")
_ON_INTERFACES = ("AssignPrivateIpAddresses", "AssignIpv6Addresses")


class Needs:
    """templates: launch templates by name, with what they were made with; they are kept as calls make them."""

    def __init__(self, tags_of: TagsOf) -> None:
        self._tags_of = tags_of
        self._templates: dict[str, Parameters] = {}

    def of(self, service: str, name: str, parameters: Parameters) -> list[Need]:
        """All that one call needs."""
        return list(self._find(service, name, parameters))

    def _find(self, service: str, name: str, given: Parameters) -> Iterator[Need]:
        if service == "sqs":
            queue = given["QueueUrl"].rpartition("/")[2]
            yield Need(f"sqs:{name.removesuffix('Batch')}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")
        elif service == "ssm":
            parameter = given["Name"]
            owner = "" if parameter.startswith("/aws/service/") else ACCOUNT
            yield Need(f"ssm:{name}", f"arn:aws:ssm:{REGION}:{owner}:parameter{parameter}")
        elif service == "eks-auth":
            yield Need(f"eks-auth:{name}", f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{given['clusterName']}")
        elif service == "ecr-public":
            yield from (Need(f"ecr-public:{name}"), Need("sts:GetServiceBearerToken"))
        elif service == "ec2":
            yield from self._find_ec2(name, given)
        else:
            yield Need(f"{service}:{name}")

    def _find_ec2(self, name: str, given: Parameters) -> Iterator[Need]:
        if name.startswith("Describe"):
            yield Need(f"ec2:{name}")
        elif name == "RunInstances":
            yield from _launch(name, given)
            yield from _tag_created(name, given)
        elif name == "CreateFleet":
            yield from self._create_fleet(given)
        elif name == "CreateLaunchTemplate":
            self._templates[given["LaunchTemplateName"]] = given
            yield Need(f"ec2:{name}", _arn("launch-template"), _of_request(_tags(given, "launch-template")))
            yield from _tag_created(name, given)
        elif name == "CreateSnapshot":
            yield from self._on_existing(name, "volume", [given["VolumeId"]])
            yield Need(f"ec2:{name}", _arn("snapshot"), _of_request(_tags(given, "snapshot")))
            yield from _tag_created(name, given)
        elif name == "CreateTags":
            tags = {each["Key"]: each["Value"] for each in given["Tags"]}
            yield from self._on_existing(name, "instance", given["Resources"], _of_request(tags))
        elif name in _ON_INSTANCES:
            yield from self._on_existing(name, "instance", given.get("InstanceIds") or [given["InstanceId"]])
        elif name in _ON_INTERFACES:
            yield from self._on_existing(name, "network-interface", [given["NetworkInterfaceId"]])
        elif name == "DeleteLaunchTemplate":
            yield from self._on_existing(name, "launch-template", [given["LaunchTemplateId"]])
        elif name == "DeleteSnapshot":
            yield from self._on_existing(name, "snapshot", [given["SnapshotId"]])
        else:
            raise NotImplementedError(f"what {name} needs is not written down in tests/iam/needs.py")

    def _create_fleet(self, given: Parameters) -> Iterator[Need]:
        """Of type instant: what RunInstances needs, for the instances of the templates, and the same for the fleet."""
        yield Need("ec2:CreateFleet", _arn("fleet"), _of_request(_tags(given, "fleet")))
        yield from _tag_created("CreateFleet", given)
        for config in given["LaunchTemplateConfigs"]:
            template = self._templates.get(config["LaunchTemplateSpecification"]["LaunchTemplateName"])
            if template is None:
                continue
            ours = {f"aws:ResourceTag/{key}": value for key, value in _tags(template, "launch-template").items()}
            data = template["LaunchTemplateData"]
            for action in ("CreateFleet", "RunInstances"):
                yield Need(f"ec2:{action}", _arn("launch-template"), ours)
                for override in config["Overrides"]:
                    yield from _launch(action, {**data, "SubnetId": override["SubnetId"]})
            yield from _tag_created("RunInstances", data)

    def _on_existing(
        self, name: str, kind: str, ids: list[str], context: Mapping[str, str] | None = None
    ) -> Iterator[Need]:
        for each in ids:
            tags = self._tags_of(each)
            if tags is not None:
                own = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
                yield Need(f"ec2:{name}", _arn(kind, each), {**own, **(context or {})})


def _launch(action: str, given: Parameters) -> Iterator[Need]:
    created = (*_CREATED, "spot-instances-request") if given.get("InstanceMarketOptions") else _CREATED
    for kind in created:
        yield Need(f"ec2:{action}", _arn(kind), _of_request(_tags(given, kind)))
    yield Need(f"ec2:{action}", _arn("image", given["ImageId"]))
    for interface in given["NetworkInterfaces"]:
        yield Need(f"ec2:{action}", _arn("subnet", interface.get("SubnetId") or given["SubnetId"]))
        for group in interface.get("Groups", ()):
            yield Need(f"ec2:{action}", _arn("security-group", group))
    for mapping in given["BlockDeviceMappings"]:
        if snapshot := mapping["Ebs"].get("SnapshotId"):
            yield Need(f"ec2:{action}", _arn("snapshot", snapshot))


def _tag_created(create_action: str, given: Parameters) -> Iterator[Need]:
    for each in given.get("TagSpecifications", ()):
        context = _of_request(_tags(given, each["ResourceType"])) | {"ec2:CreateAction": create_action}
        yield Need("ec2:CreateTags", _arn(each["ResourceType"]), context)


def _tags(given: Parameters, kind: str) -> dict[str, str]:
    """That a request gives to what it creates."""
    return {
        tag["Key"]: tag["Value"]
        for each in given.get("TagSpecifications", ())
        if each["ResourceType"] == kind
        for tag in each["Tags"]
    }


def _of_request(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()}


def _arn(kind: str, name: str = "new") -> str:
    return f"arn:aws:ec2:{REGION}:{'' if kind in _OF_AWS else ACCOUNT}:{kind}/{name}"
