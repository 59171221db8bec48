"""The network disks of an instance, and the tag that says with which ones it was launched. Pure.

No listing of instances says how large their disks are. The launch knows it, but for one thing: of a group some may be
of types whose own disks hold everything (base.LocalStore), with a smaller root disk. The tag has both sizes then.

    root=20
    root=100 store=95000000000 root-with-store=20     20 GiB where the type's own disks hold as many bytes
    root=20 data=30                                   and a data disk beside the root disk
    root=20 root-iops=4000 root-mib-s=250             faster than every disk is (data-iops, data-mib-s: the data disk)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vk_provider.cloud.base import LocalStore, MachineTraits
from vk_provider.cloud.volumes import PLAIN_SPEED, VolumeSpeed

GIB = 2**30
MAX_GIB = 65536
"""Of one disk: EC2's largest volume has as much."""
MAX_SPEED = 1_000_000
"""Of IOPS and MiB a second: more than any disk has."""
MAX_TEXT = 256
_SPEEDS = ("root-iops", "root-mib-s", "data-iops", "data-mib-s")
_NAMES = ("root", "store", "root-with-store", "data", *_SPEEDS)


@dataclass(frozen=True, slots=True)
class Disks:
    """Sizes in GiB; 0 for none. Speeds: where they are beyond what every disk has."""

    root_gib: int
    data_gib: int = 0
    root_speed: VolumeSpeed = PLAIN_SPEED
    data_speed: VolumeSpeed = PLAIN_SPEED

    @property
    def total_gib(self) -> int:
        return self.root_gib + self.data_gib

    def compute_price(self, traits: MachineTraits) -> float:
        """USD an hour, of an instance of a type with these traits."""
        beyond = sum(map(traits.volume_rates.compute_price, (self.root_speed, self.data_speed)))
        return self.total_gib * traits.root_price_per_gib + beyond


def to_gib(size_bytes: int) -> int:
    """Rounded up, as disks are made."""
    return -(-size_bytes // GIB)


def write_disks(
    disk_bytes: int,
    store: LocalStore | None,
    gib_of: Callable[[int], int] = to_gib,
    data_gib: int = 0,
    speeds: tuple[VolumeSpeed, VolumeSpeed] = (PLAIN_SPEED, PLAIN_SPEED),
) -> str:
    """The tag's value. disk_bytes, store: as in LaunchRequest; gib_of: what a cloud makes of a size in bytes; data_gib:
    of a data disk; speeds: of the root disk and the data disk."""
    root = gib_of(disk_bytes)
    if store is None or (smaller := gib_of(store.root_disk_bytes)) == root:
        text = f"root={root}"
    else:
        text = f"root={root} store={store.least_bytes} root-with-store={smaller}"
    root_speed, data_speed = speeds
    numbers = (root_speed.iops, root_speed.mib_s, data_speed.iops, data_speed.mib_s)
    more = [f"data={data_gib}"] if data_gib else []
    more += [f"{name}={number}" for name, number in zip(_SPEEDS, numbers, strict=True) if number]
    return " ".join([text, *more])


def read_disks(text: str, store_bytes: int) -> Disks | None:
    """Of an instance whose type's own disks hold so many bytes (MachineTraits.store_bytes). None where the tag is
    missing, or is none of ours."""
    found: dict[str, int] = {}
    for word in text[:MAX_TEXT].split():
        name, _, number = word.partition("=")
        if name not in _NAMES or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            return None
        found[name] = int(number)
    if "root" not in found or ("store" in found) != ("root-with-store" in found):
        return None
    root, data = found["root"], found.get("data", 0)
    if "store" in found and store_bytes >= found["store"]:
        root = found["root-with-store"]
    if max(root, data) > MAX_GIB:
        return None
    root_iops, root_mib_s, data_iops, data_mib_s = (min(found.get(name, 0), MAX_SPEED) for name in _SPEEDS)
    return Disks(root, data, VolumeSpeed(root_iops, root_mib_s), VolumeSpeed(data_iops, data_mib_s))
