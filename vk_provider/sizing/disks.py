"""Where an instance keeps images and what its pod writes: on the root disk, or on disks of its own. Pure.

Both count once: where the disks of an instance type hold everything, the root disk has its base size; where they do
not, they are left alone and the root disk is as large as it has to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vk_provider.cloud.base import LocalStore, Offering, root_disk_of
from vk_provider.cloud.disks import GIB, to_gib
from vk_provider.cloud.volumes import PLAIN_SPEED, VolumeSpeed
from vk_provider.sizing.need import format_memory
from vk_provider.sizing.requirement import Requirements

POLICY_OPTION = "instance-store-policy"
IOPS_OPTION, THROUGHPUT_OPTION = "root-volume-iops", "root-volume-throughput"
_NOTHING_ASKED = Requirements()


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """disk_bytes: of the root disk of an offering whose own disks do not do. asked: of the root disk's speed."""

    disk_bytes: int
    store: LocalStore | None = None
    asked: VolumeSpeed = PLAIN_SPEED

    @property
    def least_root_bytes(self) -> int:
        """Of an offering whose own disks do, if there is one."""
        return self.disk_bytes if self.store is None else self.store.root_disk_bytes

    def root_disk_of(self, offering: Offering) -> int:
        return root_disk_of(offering, self.disk_bytes, self.store)

    def compute_price(self, offering: Offering) -> float:
        """USD an hour of what its root disk has beyond that of an offering whose own disks do."""
        if self.store is None:
            return 0.0
        return (self.root_disk_of(offering) - self.store.root_disk_bytes) / GIB * offering.traits.root_price_per_gib

    def compute_full_price(self, offering: Offering) -> float:
        """USD an hour of the whole root disk."""
        traits, rates = offering.traits, offering.traits.volume_rates
        speed = rates.root.over(self.asked)
        size_gib = max(to_gib(self.root_disk_of(offering)), rates.least_gib(speed))
        return size_gib * traits.root_price_per_gib + rates.compute_price(speed)

    def store_among(self, offerings: Iterable[Offering]) -> LocalStore | None:
        """For the launch of these; None where it is of no use."""
        return self.store if self.store is not None and any(map(self.store.holds, offerings)) else None

    def explain(self, offering: Offering) -> str:
        """What of the choice is about disks, after the price; "" where there is nothing to say."""
        if self.store is None:
            return ""
        if self.store.holds(offering):
            traits = offering.traits
            name = f"{traits.local_disks} local disks" if traits.local_disks > 1 else "local disk"
            return f" (its {name} of {format_memory(traits.local_disk_bytes)} for images and the pod's files)"
        price = self.compute_price(offering)
        if price <= 0:
            return ""
        more = format_memory(self.disk_bytes - self.store.root_disk_bytes)
        return f" and ${price:.4f} for {more} more of root volume"


def read_speed(options: Mapping[str, str]) -> VolumeSpeed:
    """What the options of a launch ask of its root disk."""
    return VolumeSpeed(int(options.get(IOPS_OPTION, 0)), int(options.get(THROUGHPUT_OPTION, 0)))


def plan_disks(need_bytes: int, base_bytes: int, requirements: Requirements = _NOTHING_ASKED) -> DiskPlan:
    """need_bytes: of the machine image, container images and the pod's files together; base_bytes: of a root disk that
    only has to have room for the first two."""
    root, asked = requirements.root_disk_bytes, read_speed(dict(requirements.options))
    if requirements.option(POLICY_OPTION) == "none":
        return DiskPlan(max(need_bytes, root), None, asked)
    # Who asks for a root volume wants that much room, wherever it is.
    return DiskPlan(max(need_bytes, root), LocalStore(max(need_bytes, root), max(base_bytes, root)), asked)
