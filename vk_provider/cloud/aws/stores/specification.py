"""Where and how a builder is launched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.specification import UNLIMITED, build_tags
from vk_provider.cloud.aws.stores.volume import STORE_DEVICE, Parameters, build_volume
from vk_provider.cloud.aws.volumetypes import INCLUDED, speed_beyond
from vk_provider.cloud.base import TAG_DISKS, TAG_STEADY_CPU, Offering
from vk_provider.cloud.disks import GIB, read_disks, write_disks
from vk_provider.cloud.userdata import check_user_data

LEAST_CPU_MILLI, LEAST_MEMORY_BYTES = 2000, 4 << 30
"""Of a builder: containerd unpacks three layers at once."""
ROOT_GIB = 8
WITHOUT_CONSOLE = ("t2.",)
"""Types that are recommended and not of the Nitro System: what their console says can be read much later only."""
_TAGGED = ("instance", "volume", "network-interface")


@dataclass(frozen=True, slots=True)
class BuilderLaunch:
    """order: BuildOrder.to_user_data. volume_gib: of the volume that becomes the store."""

    image: ImageFacts
    tags: Mapping[str, str]
    order: str
    volume_gib: int
    client_token: str


def build_builder(settings: AwsCloudSettings, launch: BuilderLaunch, offering: Offering, subnet_id: str) -> Parameters:
    """Of RunInstances."""
    check_user_data(launch.order)
    interface: Parameters = {"DeviceIndex": 0, "DeleteOnTermination": True, "SubnetId": subnet_id}
    if settings.security_groups:
        interface["Groups"] = list(settings.security_groups)
    root = {**build_volume(settings, max(launch.image.root_gib, ROOT_GIB)), "Throughput": INCLUDED.mib_s}
    store = build_volume(settings, launch.volume_gib)
    tags = {**launch.tags, TAG_DISKS: _write_disks(root, store)}
    is_burstable = offering.traits.burst_price_per_cpu > 0
    if is_burstable:
        tags[TAG_STEADY_CPU] = str(offering.cpu_milli)
    return {
        "ImageId": launch.image.image_id,
        "InstanceType": offering.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": launch.client_token,
        "UserData": launch.order,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": "disabled",
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [
            {"DeviceName": launch.image.root_device, "Ebs": root},
            {"DeviceName": STORE_DEVICE, "Ebs": store},
        ],
        "NetworkInterfaces": [interface],
        "TagSpecifications": [{"ResourceType": kind, "Tags": build_tags(tags)} for kind in _TAGGED],
        **(UNLIMITED if is_burstable else {}),
    }


def _write_disks(root: Parameters, store: Parameters) -> str:
    sizes = [volume["VolumeSize"] for volume in (root, store)]
    speeds = [speed_beyond(volume.get("Iops", 0), volume["Throughput"]) for volume in (root, store)]
    return write_disks(sizes[0] * GIB, None, data_gib=sizes[1], speeds=(speeds[0], speeds[1]))


def price_builder(offering: Offering) -> float:
    """USD an hour without its disks: to pull and to unpack takes all of its CPU."""
    return offering.compute_price(offering.cpu_milli)


def price_disks(parameters: Parameters, offering: Offering) -> float:
    """USD an hour of the volumes of a builder, by the tags that it is launched with."""
    tags = {tag["Key"]: tag["Value"] for tag in parameters["TagSpecifications"][0]["Tags"]}
    disks = read_disks(tags[TAG_DISKS], 0)
    assert disks is not None, "written here"
    return disks.compute_price(offering.traits)


def rank_builders(
    offerings: Iterable[Offering], architecture: str, subnets: Mapping[str, list[str]]
) -> list[tuple[Offering, str]]:
    """Where a builder may be launched: the cheapest type that does first, with what it uses of CPU, each in one subnet
    of its zone."""
    fitting = [
        each
        for each in offerings
        if each.architecture == architecture
        and each.capacity_type == "on-demand"
        and each.cpu_milli >= LEAST_CPU_MILLI
        and each.memory_bytes >= LEAST_MEMORY_BYTES
        and not each.gpus
        and each.traits.is_current
        and not each.instance_type.startswith(WITHOUT_CONSOLE)
        and not each.traits.is_metal
        and subnets.get(each.zone)
    ]
    fitting.sort(key=lambda each: (each.price_per_hour <= 0, price_builder(each), each.instance_type, each.zone))
    return [(each, subnets[each.zone][0]) for each in fitting]
