"""Network disks: what a type of them allows, and what one costs beyond its size. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class VolumeType:
    """Limits of a cloud, which refuses every launch beyond them.

    iops, mib_s:    (least, most) of one volume
    mib_s_per_iops: MiB a second for each IOPS, at most
    iops_per_gib:   IOPS for each GiB, at most, but for those that every volume has
    """

    name: str
    iops: tuple[int, int]
    mib_s: tuple[int, int]
    mib_s_per_iops: float
    iops_per_gib: int

    def find_problem(self, iops: int, mib_s: int) -> str:
        """Why there is no such volume, "" for nothing."""
        for value, (least, most), unit in ((iops, self.iops, "IOPS"), (mib_s, self.mib_s, "MiB/s")):
            if not least <= value <= most:
                return f"a {self.name} volume has {least} to {most} {unit}, not {value}"
        if mib_s > iops * self.mib_s_per_iops:
            return (
                f"a {self.name} volume has at most {self.mib_s_per_iops:g} MiB/s for each IOPS: {mib_s} MiB/s need "
                f"{math.ceil(mib_s / self.mib_s_per_iops)} IOPS, and it has {iops}"
            )
        return ""


@dataclass(frozen=True, slots=True)
class VolumeSpeed:
    """0: that which every volume has for the price of its size."""

    iops: int = 0
    mib_s: int = 0

    def over(self, other: VolumeSpeed) -> VolumeSpeed:
        """`other` where it says something."""
        return VolumeSpeed(other.iops or self.iops, other.mib_s or self.mib_s)


PLAIN_SPEED: Final = VolumeSpeed()


@dataclass(frozen=True, slots=True)
class RootVolumes:
    """type: of root disks; speed: of one for which nothing is asked."""

    type: VolumeType
    speed: VolumeSpeed

    def find_problem(self, asked: VolumeSpeed) -> str:
        speed = self.speed.over(asked)
        return self.type.find_problem(speed.iops, speed.mib_s)


@dataclass(frozen=True, slots=True)
class VolumeRates:
    """USD an hour of what a disk has beyond `included`, which its size pays for.

    root:         speed of a root disk for which nothing is asked
    iops_per_gib: a root disk is made as large as its IOPS need; 0: as is asked
    store_price:  of the disk of a prepared store, at least, with its size
    """

    per_iops: float = 0.0
    per_mib_s: float = 0.0
    included: VolumeSpeed = PLAIN_SPEED
    root: VolumeSpeed = PLAIN_SPEED
    iops_per_gib: int = 0
    store_price: float = 0.0

    def compute_price(self, speed: VolumeSpeed) -> float:
        """USD an hour."""
        iops, mib_s = speed.iops - self.included.iops, speed.mib_s - self.included.mib_s
        return max(0, iops) * self.per_iops + max(0, mib_s) * self.per_mib_s

    def least_gib(self, speed: VolumeSpeed) -> int:
        return -(-speed.iops // self.iops_per_gib) if self.iops_per_gib and speed.iops else 0


NO_RATES: Final = VolumeRates()
