"""The parameters of launch calls and launch templates. Pure: equal requests are equal parameters, byte for byte, or a
repetition would be refused as another request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from vk_provider.cloud.aws.answers import FleetError
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.instancestore import add_store
from vk_provider.cloud.aws.ipv6 import DUAL_STACK, IN_CALL, await_ipv6
from vk_provider.cloud.aws.options import LaunchOptions
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.volume import StoreVolume, add_image_store, build_store_mapping
from vk_provider.cloud.aws.volumetypes import GP3, speed_beyond
from vk_provider.cloud.aws.ways import Address, Way, token_of
from vk_provider.cloud.base import TAG_DISKS, TAG_FAMILIES, TAG_IMAGE_STORE, LaunchRequest, Offering
from vk_provider.cloud.disks import to_gib, write_disks
from vk_provider.cloud.userdata import encode_user_data
from vk_provider.cloud.volumes import PLAIN_SPEED

Parameters = dict[str, Any]
SPOT = "spot"
_TAGGED = ("instance", "volume", "network-interface")
_TAGGED_OF_SPOT = (*_TAGGED, "spot-instances-request")
"""Who may make only what has our tag may make none of these without it."""
_NAME_DIGITS = 32
UNLIMITED: Parameters = {"CreditSpecification": {"CpuCredits": "unlimited"}}
"""What the price of a burstable type assumes, and T2 or an account may have otherwise by default. EC2 refuses it for
other types (InstanceCreditSpecification.NotSupported)."""


@dataclass(frozen=True, slots=True)
class Override:
    """One way to have an instance."""

    offering: Offering
    subnet_id: str

    @property
    def is_burstable(self) -> bool:
        return self.offering.traits.burst_price_per_cpu > 0


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All that goes into the calls of one request, whichever way is taken. emptied: see ways.token_of. store: the
    prepared store that the instances have a volume of. ipv6: they have IPv6 addresses."""

    request: LaunchRequest
    overrides: tuple[Override, ...]
    image: ImageFacts
    options: LaunchOptions
    emptied: int = 0
    store: StoreVolume | None = None
    ipv6: bool = False

    @property
    def capacity_type(self) -> str:
        return self.overrides[0].offering.capacity_type

    @property
    def user_data(self) -> str:
        """The request's, with what the machine image is to do with instance store disks and a prepared store, and
        whether the agent waits for IPv6 addresses."""
        text, disks = self.request.user_data, self.request.local_store
        if disks is not None:
            text = add_store(text, disks.least_bytes)
        if self.store is not None:
            text = add_image_store(text, self.store)
        return await_ipv6(text) if self.ipv6 else text

    @property
    def tags(self) -> Mapping[str, str]:
        """The request's, with the disks and the IP families that instances really get, and without the store that they
        do not."""
        request, tags = self.request, self.request.tags
        if self.store is None and TAG_IMAGE_STORE in tags:
            tags = {name: value for name, value in tags.items() if name != TAG_IMAGE_STORE}
        if self.ipv6:
            tags = {**tags, TAG_FAMILIES: DUAL_STACK}
        if TAG_DISKS not in tags:
            return tags
        data_gib, data_speed = (self.store.volume_gib, self.store.speed) if self.store is not None else (0, PLAIN_SPEED)
        speeds = speed_beyond(self.options.iops, self.options.throughput), data_speed
        written = write_disks(request.disk_bytes, request.local_store, self.root_gib, data_gib, speeds)
        return {**tags, TAG_DISKS: written}

    @property
    def kinds(self) -> tuple[bool, ...]:
        """Whether the overrides are of burstable types; both where some are, the first one's first."""
        return tuple(dict.fromkeys(each.is_burstable for each in self.overrides))

    def root_gib(self, disk_bytes: int) -> int:
        """Of the root volume for so many bytes."""
        return max(to_gib(disk_bytes), self.image.root_gib, -(-self.options.iops // GP3.iops_per_gib))

    @property
    def root_disk_bytes(self) -> int:
        """Of the first override; those of others may differ."""
        return self.request.root_disk_of(self.overrides[0].offering)

    def find_offering(self, failure: FleetError) -> Offering | None:
        """The one that an error of a fleet is about."""
        said = failure.launch_template_and_overrides.overrides
        return self.offering_of(said.instance_type, said.subnet_id)

    def offering_of(self, instance_type: str, subnet_id: str) -> Offering | None:
        for each in self.overrides:
            if (each.offering.instance_type, each.subnet_id) == (instance_type, subnet_id):
                return each.offering
        return None


def build_run(plan: LaunchPlan, way: Way, settings: AwsCloudSettings) -> Parameters:
    """Of RunInstances, for a plan with one override."""
    (override,) = plan.overrides
    parameters = {
        **_common(plan, way, settings, override.subnet_id),
        "InstanceType": override.offering.instance_type,
        "MinCount": 1,
        "MaxCount": plan.request.count,
        "ClientToken": token_of(plan.request.client_token, way, plan.emptied),
        "UserData": plan.user_data,
    }
    if override.is_burstable:
        parameters |= UNLIMITED
    if plan.capacity_type == SPOT:
        spot: Parameters = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        if settings.spot_max_price:
            spot["MaxPrice"] = f"{settings.spot_max_price:.5f}"
        parameters["InstanceMarketOptions"] = {"MarketType": SPOT, "SpotOptions": spot}
    return parameters


def build_template(plan: LaunchPlan, way: Way, settings: AwsCloudSettings, *, is_burstable: bool = False) -> Parameters:
    """The data of a launch template of a fleet, for its burstable types or for the others. It has the user data, which
    a fleet's own parameters cannot have: so it is the template of one call."""
    data = {**_common(plan, way, settings), "UserData": encode_user_data(plan.user_data)}
    return data | UNLIMITED if is_burstable else data


def name_template(data: Mapping[str, Any], prefix: str) -> str:
    """By its content: who makes the same call makes the same template, also after a crash."""
    digest = hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return f"{prefix}-{digest[:_NAME_DIGITS]}"


def build_fleet(plan: LaunchPlan, templates: Mapping[bool, str], way: Way, settings: AwsCloudSettings) -> Parameters:
    """Of CreateFleet. templates: names, by whether that is for burstable types: how CPU credits are used cannot be said
    in an override. Spot: where capacity is deepest at a low price. On demand: the lowest price; where root volumes
    differ, whose prices no allocation strategy knows, the order of the overrides."""
    count = plan.request.count
    overrides: list[Parameters] = [
        {"InstanceType": each.offering.instance_type, "SubnetId": each.subnet_id} for each in plan.overrides
    ]
    sizes = [plan.request.root_disk_of(each.offering) for each in plan.overrides]
    for override, size in zip(overrides, sizes, strict=True):
        if size != plan.root_disk_bytes:
            override["BlockDeviceMappings"] = _build_mappings(plan, settings, size)
    parameters: Parameters = {
        "Type": "instant",
        "ClientToken": token_of(plan.request.client_token, way, plan.emptied),
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": templates[kind], "Version": "1"},
                "Overrides": [
                    made for each, made in zip(plan.overrides, overrides, strict=True) if each.is_burstable is kind
                ],
            }
            for kind in plan.kinds
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": plan.capacity_type},
        "TagSpecifications": [{"ResourceType": "fleet", "Tags": build_tags(plan.tags)}],
    }
    if plan.capacity_type == SPOT:
        parameters["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
        if settings.spot_max_price:
            for override in overrides:
                override["MaxPrice"] = f"{settings.spot_max_price:.5f}"
    elif len(set(sizes)) > 1:
        parameters["OnDemandOptions"] = {"AllocationStrategy": "prioritized"}
        for rank, override in enumerate(overrides):
            override["Priority"] = float(rank)
    else:
        parameters["OnDemandOptions"] = {"AllocationStrategy": "lowest-price"}
    return parameters


def build_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _common(plan: LaunchPlan, way: Way, settings: AwsCloudSettings, subnet_id: str = "") -> Parameters:
    options = plan.options
    tags = build_tags(plan.tags)
    tagged = _TAGGED_OF_SPOT if plan.capacity_type == SPOT else _TAGGED
    common: Parameters = {
        "ImageId": plan.image.image_id,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": "disabled",  # agent.metadata_guard closes the endpoint by IPv4
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": _build_mappings(plan, settings, plan.root_disk_bytes),
        "NetworkInterfaces": [_interface(plan, way, subnet_id)],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in tagged],
    }
    if options.instance_profile:
        key = "Arn" if options.instance_profile.startswith("arn:") else "Name"
        common["IamInstanceProfile"] = {key: options.instance_profile}
    return common


def _build_mappings(plan: LaunchPlan, settings: AwsCloudSettings, disk_bytes: int) -> list[Parameters]:
    root = _root_mapping(plan, settings, disk_bytes)
    return [root] if plan.store is None else [root, build_store_mapping(plan.store, settings)]


def _root_mapping(plan: LaunchPlan, settings: AwsCloudSettings, disk_bytes: int) -> Parameters:
    volume: Parameters = {
        "VolumeType": "gp3",
        "VolumeSize": plan.root_gib(disk_bytes),
        "Iops": plan.options.iops,
        "Throughput": plan.options.throughput,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    if settings.kms_key:
        volume["KmsKeyId"] = settings.kms_key
    return {"DeviceName": plan.image.root_device, "Ebs": volume}


def _interface(plan: LaunchPlan, way: Way, subnet_id: str) -> Parameters:
    options = plan.options
    interface: Parameters = {"DeviceIndex": 0, "DeleteOnTermination": True}
    if options.security_groups:
        interface["Groups"] = list(options.security_groups)
    if subnet_id:
        interface["SubnetId"] = subnet_id
    if way.address is Address.IN_CALL:
        interface["SecondaryPrivateIpAddressCount"] = 1
    elif way.address is Address.PREFIX:
        interface["Ipv4PrefixCount"] = 1
    if plan.ipv6 and way.address is not Address.BARE:
        interface |= IN_CALL
    return interface
