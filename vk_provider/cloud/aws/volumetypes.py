"""The type of EBS volumes that instances have. Pure."""

from __future__ import annotations

from typing import Final

from vk_provider.cloud.volumes import VolumeSpeed, VolumeType

GP3: Final = VolumeType("gp3", (3000, 80000), (125, 2000), 0.25, 500)
"""Source: the EBS User Guide, "General Purpose SSD volumes"."""
INCLUDED: Final = VolumeSpeed(3000, 125)
"""Of every gp3 volume, however small, for the price of its size."""


def speed_beyond(iops: int, mib_s: int) -> VolumeSpeed:
    """Without what is INCLUDED."""
    return VolumeSpeed(iops if iops > INCLUDED.iops else 0, mib_s if mib_s > INCLUDED.mib_s else 0)
