"""The table [cloud.aws.disk_prices]."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.settingtypes import NonNegativeFloat


@dataclass(frozen=True, slots=True)
class DiskPriceSettings:
    """USD a month, beside root_volume_price; the defaults are those of us-east-1. They are in the bill and in limits.

    iops:       of each IOPS that a gp3 volume has beyond 3,000
    throughput: of each MiB a second that it has beyond 125
    snapshot:   of each GiB of a snapshot of prepared images
    """

    iops: NonNegativeFloat = 0.005
    throughput: NonNegativeFloat = 0.04
    snapshot: NonNegativeFloat = 0.05
