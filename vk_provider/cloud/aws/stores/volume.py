"""The volume of a prepared store in the launch of an instance. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.volumetypes import GP3, INCLUDED
from vk_provider.cloud.volumes import PLAIN_SPEED, VolumeSpeed
from vk_provider.errors import CloudRequestError
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.imagebuild import find_uuid

Parameters = dict[str, Any]
STORE_DEVICE: Final = "/dev/sdf"
"""Of a store's volume. On Nitro instances it is an NVMe device of another name: there it is known by its UUID."""
HINT: Final = "imageStore"
"""In BootData.extra: {"uuid": "..."}, of the file system that is the store. A volume with another one is left alone."""


@dataclass(frozen=True, slots=True)
class StoreVolume:
    """What a launch is to know of a store. volume_gib: that the volume is made with (made_gib); speed: beyond what
    every volume has."""

    snapshot_id: str
    nonce: str
    volume_gib: int
    speed: VolumeSpeed = PLAIN_SPEED


def build_store_mapping(volume: StoreVolume, settings: AwsCloudSettings) -> Parameters:
    """Of the instance of a pod."""
    ebs: Parameters = {**build_volume(settings, volume.volume_gib), "SnapshotId": volume.snapshot_id}
    if settings.image_stores.initialization_rate:
        ebs["VolumeInitializationRate"] = settings.image_stores.initialization_rate
    return {"DeviceName": STORE_DEVICE, "Ebs": ebs}


def add_image_store(user_data: str, volume: StoreVolume) -> str:
    """Boot data by which an instance knows its store. Raises CloudRequestError for user data that are no boot data."""
    try:
        boot_data = BootData.from_user_data(user_data)
    except ValueError as error:
        raise CloudRequestError(f"InvalidParameterValue: an image store needs boot data: {error}") from None
    extra = {**boot_data.extra, HINT: {"uuid": find_uuid(volume.nonce)}}
    return replace(boot_data, extra=extra).to_user_data()


def made_gib(settings: AwsCloudSettings, size_gib: int) -> int:
    """Of a volume that is asked for with `size_gib`: EC2 wants a larger one for many IOPS."""
    iops = settings.image_stores.iops
    return max(size_gib, -(-iops // GP3.iops_per_gib)) if iops > INCLUDED.iops else size_gib


def build_volume(settings: AwsCloudSettings, size_gib: int) -> Parameters:
    """Encrypted, and gone with its instance."""
    volume: Parameters = {
        "VolumeType": "gp3",
        "VolumeSize": made_gib(settings, size_gib),
        "Throughput": settings.image_stores.throughput,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    iops = settings.image_stores.iops
    if iops > INCLUDED.iops:
        volume["Iops"] = iops
    if settings.kms_key:
        volume["KmsKeyId"] = settings.kms_key
    return volume
