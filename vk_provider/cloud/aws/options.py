"""What a launch request may ask of EC2 beside the settings: LaunchRequest.options. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vk_provider.cloud.aws.settings import AwsCloudSettings, is_image, is_security_group, is_subnet
from vk_provider.cloud.aws.volumetypes import GP3
from vk_provider.errors import CloudRequestError

OPTIONS = (
    "subnet",
    "image",
    "security-groups",
    "instance-profile",
    "root-volume-throughput",
    "root-volume-iops",
    "instance-store-policy",
)
_PROFILE = re.compile(r"[\w+=,.@/:-]{1,256}")
_MAX_GROUPS = 16


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """The settings, but for what the request says. subnet, image: "" for those of the settings."""

    subnet: str
    image: str
    security_groups: tuple[str, ...]
    instance_profile: str
    throughput: int
    iops: int


def read_options(options: Mapping[str, str], settings: AwsCloudSettings) -> LaunchOptions:
    """Raises CloudRequestError for an option that is unknown, or whose value EC2 would never take."""
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise CloudRequestError(f"InvalidParameter: unknown option {unknown[0]!r} (known: {', '.join(OPTIONS)})")
    subnet, image = options.get("subnet", ""), options.get("image", "")
    if subnet and not is_subnet(subnet):
        raise _bad("subnet", subnet, "a subnet's ID")
    if image and not is_image(image):
        raise _bad("image", image, "an image's ID or resolve:ssm:<parameter>")
    groups = settings.security_groups
    if named := options.get("security-groups", ""):
        groups = tuple(group.strip() for group in named.split(","))
        if len(groups) > _MAX_GROUPS or not all(map(is_security_group, groups)):
            raise _bad("security-groups", named, f"up to {_MAX_GROUPS} security groups' IDs")
    policy = options.get("instance-store-policy", "")
    if policy not in ("", "none", settings.instance_store_policy):
        raise _bad("instance-store-policy", policy, '"none", or what cloud.aws.instance_store_policy is')
    profile = options.get("instance-profile", "") or settings.instance_profile
    if profile and not _PROFILE.fullmatch(profile):
        raise _bad("instance-profile", profile, "an instance profile's name or ARN")
    throughput = _number(options, "root-volume-throughput", settings.root_volume_throughput, GP3.mib_s)
    iops = _number(options, "root-volume-iops", settings.root_volume_iops, GP3.iops)
    if problem := GP3.find_problem(iops, throughput):
        raise CloudRequestError(f"InvalidParameterCombination: options of the root volume: {problem}")
    return LaunchOptions(subnet, image, groups, profile, throughput, iops)


def _number(options: Mapping[str, str], name: str, default: int, limits: tuple[int, int]) -> int:
    text = options.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and limits[0] <= int(text[:9]) <= limits[1] and len(text) < 9):
        raise _bad(name, text, f"a number from {limits[0]} to {limits[1]}")
    return int(text)


def _bad(name: str, value: str, wanted: str) -> CloudRequestError:
    return CloudRequestError(f"InvalidParameterValue: option {name} is {value[:64]!r}, must be {wanted}")
