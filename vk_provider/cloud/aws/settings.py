"""The table [cloud.aws]."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.diskpricesettings import DiskPriceSettings
from vk_provider.cloud.aws.stores.settings import LEAST_INITIALIZATION_RATE, ImageStoreSettings
from vk_provider.cloud.aws.volumetypes import GP3
from vk_provider.settingtypes import NonNegativeFloat, PositiveFloat, PositiveInt

RESOLVE_SSM = "resolve:ssm:"
"""Before the name of a Systems Manager parameter that holds an image's ID, as in EC2's launch templates."""
_IMAGE = re.compile(r"ami-[0-9a-f]{8,17}|resolve:ssm:[\w./:-]+")
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}")
_SECURITY_GROUP = re.compile(r"sg-[0-9a-f]{8,17}")
_TEMPLATE_PREFIX = re.compile(r"[A-Za-z0-9()./_-]{3,64}")
_EKS_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class AwsCloudSettings:
    """EC2. Credentials come from the SDK's own chain: environment, profile, SSO, web identity (IRSA), EKS Pod Identity,
    the machine's instance profile.

    region:           such as "eu-central-1"; "" takes the one of the SDK's chain
    endpoint_url:     of all services, for tests and private endpoints; "" for AWS's own
    profile:          of ~/.aws/config; "" for none
    subnets:          IDs, at least one; their zones are looked up. Several in one zone are used alike
    security_groups:  IDs, of every instance; empty takes the VPC's default group
    instance_profile: name or ARN of the instances' IAM instance profile; "" for none, which is all that instances need
    image_amd64:      machine image of amd64 instances, an ID ("ami-...") or "resolve:ssm:<parameter>"; "" when
                      there is none: no instance type of that architecture is offered then
    image_arm64:      the same for arm64
    image_ttl_s:      how long the value of an SSM parameter and what is known of an image are believed
    kms_key:          ID or ARN of the key that root volumes are encrypted with; "" takes the account's for EBS
    root_volume_iops: of each root volume (gp3)
    root_volume_throughput: MiB a second of each root volume (gp3); more than a quarter of its IOPS is refused
    root_volume_price: USD a month for a GiB of a root volume (gp3, that of us-east-1): of the bill and of limits, where
                      those of stopped instances count, too, and by which an instance type with disks of its own is
                      compared with one that needs a larger root volume
    disk_prices:      what of volumes and snapshots has a price beside the size of volumes
    instance_store_policy: "raid0": the instance store disks (NVMe) of a type, joined to one, hold images, logs and what
                      pods write, where they are large enough for the pod, and its root volume is not enlarged then.
                      EC2 clears them when an instance stops or ends, not when it reboots. "none": they are left to the
                      pods
    spot_max_price:   USD an hour that a spot instance may cost; 0 is the on-demand price
    instance_types:   that are offered, by name with * for any, such as "m7i.*"; empty for all
    second_address:   how an instance gets its pod's address. "auto": in the call that launches it, where the account
                      accepts that, else assigned afterwards. "prefix": a /28 prefix of its own, which takes 16
                      addresses of the subnet. "assign": always afterwards
    ipv6:             whether each instance gets two IPv6 addresses besides, its own and its pod's, and so pods of both
                      families: with the launch, where the account accepts that, else assigned afterwards. Every subnet
                      needs an IPv6 block then, and routes and security groups for ::/0 are as you make them
    launch_template_prefix: of the names of the launch templates that are made
    launch_template_keep_s: how long a launch template is kept after it was made
    notice_queue:     URL of the SQS queue that EventBridge's events of EC2 go to; "" for none: what happens to
                      instances is then seen in listings and by their agents alone
    listing_lag_s:    for how long a new instance may be missing from listings
    connections:      connections to EC2 at most
    connect_timeout_s: for a connection
    read_timeout_s:   for an answer
    runtime_version:  of containerd on the machine images
    runtime_handlers: names of its runtime handlers, "" the default one; empty when it does not report their features
    image_volumes:    whether the images' containerd mounts image volumes (2.1 does)
    recursive_read_only_mounts: whether it makes read-only mounts recursively so
    supplemental_groups_policy: whether it honours supplementalGroupsPolicy
    nvidia_gpus:      whether the images have NVIDIA's driver, and a CDI specification of the instance's GPUs from its
                      container toolkit, which is made as they boot. Pods that ask for nvidia.com/gpu are refused
                      without it: their containers would get no GPU
    catalog:          of instance types and prices
    image_stores:     images that are kept ready as EBS snapshots
    ecr_credentials:  whether images of Amazon ECR are pulled with the provider's own permissions, without
                      imagePullSecrets, as on EKS's nodes
    eks_cluster:      name of the EKS cluster, whose EKS Pod Identity is then answered on instances at 169.254.170.23;
                      "" where it is none
    """

    subnets: tuple[str, ...] = ()
    region: str = ""
    endpoint_url: str = ""
    profile: str = ""
    security_groups: tuple[str, ...] = ()
    instance_profile: str = ""
    image_amd64: str = ""
    image_arm64: str = ""
    image_ttl_s: PositiveFloat = 3600.0
    kms_key: str = ""
    root_volume_iops: Annotated[int, Meta(ge=3000, le=80000)] = 3000
    root_volume_throughput: Annotated[int, Meta(ge=125, le=2000)] = 125
    root_volume_price: NonNegativeFloat = 0.08
    disk_prices: DiskPriceSettings = field(default_factory=DiskPriceSettings)
    instance_store_policy: Literal["raid0", "none"] = "raid0"
    spot_max_price: NonNegativeFloat = 0.0
    instance_types: tuple[str, ...] = ()
    second_address: Literal["auto", "prefix", "assign"] = "auto"
    ipv6: bool = False
    launch_template_prefix: str = "vk-provider"
    launch_template_keep_s: PositiveFloat = 900.0
    notice_queue: str = ""
    listing_lag_s: NonNegativeFloat = 10.0
    connections: PositiveInt = 32
    connect_timeout_s: PositiveFloat = 5.0
    read_timeout_s: PositiveFloat = 60.0
    runtime_version: str = "2.1.4"
    runtime_handlers: tuple[str, ...] = ("",)
    image_volumes: bool = True
    recursive_read_only_mounts: bool = True
    supplemental_groups_policy: bool = True
    nvidia_gpus: bool = False
    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    image_stores: ImageStoreSettings = field(default_factory=ImageStoreSettings)
    ecr_credentials: bool = True
    eks_cluster: str = ""


def find_problem(settings: AwsCloudSettings) -> str:
    """What is wrong with them beyond types and limits: one line that begins with the key, "" for nothing."""
    if not settings.subnets:
        return "subnets must name at least one subnet"
    for subnet in settings.subnets:
        if not _SUBNET.fullmatch(subnet):
            return f"subnets: {subnet!r} is no subnet's ID, such as subnet-0123456789abcdef0"
    for group in settings.security_groups:
        if not _SECURITY_GROUP.fullmatch(group):
            return f"security_groups: {group!r} is no security group's ID, such as sg-0123456789abcdef0"
    if not settings.image_amd64 and not settings.image_arm64:
        return "image_amd64 or image_arm64 must name a machine image"
    for key, image in (("image_amd64", settings.image_amd64), ("image_arm64", settings.image_arm64)):
        if image and not is_image(image):
            return f"{key} {image!r} must be an image's ID (ami-...) or resolve:ssm:<parameter>"
    if not _TEMPLATE_PREFIX.fullmatch(settings.launch_template_prefix):
        return (
            f"launch_template_prefix {settings.launch_template_prefix!r} must be 3-64 of A-Z, a-z, 0-9 and ( ) . / _ -"
        )
    if settings.eks_cluster and not _EKS_CLUSTER.fullmatch(settings.eks_cluster):
        return f"eks_cluster {settings.eks_cluster!r} must be 1-100 of A-Z, a-z, 0-9, - and _, as EKS names clusters"
    if not _VERSION.fullmatch(settings.runtime_version):
        return f"runtime_version {settings.runtime_version!r} must be three numbers, such as 2.1.4"
    return _find_volume_problem(settings)


def _find_volume_problem(settings: AwsCloudSettings) -> str:
    """What EC2 would refuse with every launch."""
    if problem := GP3.find_problem(settings.root_volume_iops, settings.root_volume_throughput):
        return f"root_volume_throughput, root_volume_iops: {problem}"
    stores = settings.image_stores
    if problem := GP3.find_problem(stores.iops, stores.throughput):
        return f"image_stores.throughput, image_stores.iops: {problem}"
    least = LEAST_INITIALIZATION_RATE
    if 0 < stores.initialization_rate < least:
        return f"image_stores.initialization_rate {stores.initialization_rate} must be 0, or {least} to 300"
    return ""


def is_image(text: str) -> bool:
    """Whether it names a machine image."""
    return _IMAGE.fullmatch(text) is not None


def is_subnet(text: str) -> bool:
    return _SUBNET.fullmatch(text) is not None


def is_security_group(text: str) -> bool:
    return _SECURITY_GROUP.fullmatch(text) is not None
