"""What an instance type has, of what DescribeInstanceTypes says and of what only the documentation does. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from vk_provider.cloud.aws.catalog.answers import Network, TypeInfo
from vk_provider.cloud.base import MachineTraits
from vk_provider.cloud.volumes import NO_RATES, VolumeRates

MIB, GB = 2**20, 10**9
MEMORY_LOSS: Final = 0.075
"""Share of a virtual machine's memory that its operating system does not see: hypervisor, firmware, the kernel's own
(Karpenter's vmMemoryOverheadPercent). Agents report the true figure of each type."""
ARM64_LOSS_MIB: Final = 64
"""What kernels of arm64 machine images reserve besides (CMA; Karpenter's figure)."""
STORE_LOSS: Final = 0.03
"""Share of local disks that their file system takes for itself: inodes and a journal, measured with ext4 as 2.1 % of
100 GiB and 0.8 % of 7.5 TiB. manifests/aws/instance-store.sh has the same figure."""
ADDRESSES: Final = 2
"""Private IPv4 addresses of an instance: the agent's and the pod's."""
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
_CAPACITY_TYPES = {"on-demand": "on-demand", "spot": "spot"}

BASELINE_PERCENT: Final[dict[str, dict[str, float]]] = {
    "t2": {"nano": 5, "micro": 10, "small": 20, "medium": 20, "large": 30, "xlarge": 22.5, "2xlarge": 17},
    "": {"nano": 5, "micro": 10, "small": 20, "medium": 20, "large": 30, "xlarge": 40, "2xlarge": 40},
}
"""Of each vCPU of a burstable type, by family ("" for all others) and size. Source: the EC2 User Guide, "Key concepts
for burstable performance instances"."""
UNKNOWN_BASELINE_PERCENT: Final = 20
BURST_PRICES: Final[dict[str, float]] = {"t4g": 0.04, "": 0.05}
"""USD an hour for a vCPU above the baseline, with unlimited credits. Source: the EC2 User Guide, "Unlimited mode";
the same in all regions."""


class Machine(Struct, frozen=True, gc=False, array_like=True):
    """One instance type, as it is kept on disk.

    architecture:   amd64 or arm64
    capacity_types: on-demand, spot
    gpu_mib:        memory of each GPU; volume_mb_per_s: what the network disks carry together, all the time
    ipv6_addresses: of each network interface; -1 where that is not known
    """

    instance_type: str
    architecture: str
    cpus: int
    memory_mib: int
    capacity_types: list[str]
    is_current: bool
    is_metal: bool
    is_burstable: bool
    gpus: int = 0
    gpu_name: str = ""
    gpu_mib: int = 0
    local_disk_gb: int = 0
    interfaces: int = 0
    addresses: int = 0
    volumes: int = 0
    volume_mb_per_s: float = 0.0
    local_disks: int = 0
    ipv6_addresses: int = -1


@dataclass(frozen=True, slots=True)
class DiskTerms:
    """has_store: instances keep images and what pods write on their local disks, see traits.store_bytes.
    root_price: USD an hour of each GiB of a root volume; rates: what volumes cost beyond their size."""

    has_store: bool = False
    root_price: float = 0.0
    rates: VolumeRates = NO_RATES


NO_TERMS: Final = DiskTerms()


def read_machine(info: TypeInfo) -> Machine | None:
    """None for a type that no pod of ours can run on: of another architecture (Mac), without hardware virtualization,
    with one address, or sold in other ways only. GPUs are NVIDIA's, as in nvidia.com/gpu."""
    offered = [_ARCHITECTURES[name] for name in info.processor.supported_architectures if name in _ARCHITECTURES]
    capacity_types = [_CAPACITY_TYPES[name] for name in info.usage_classes if name in _CAPACITY_TYPES]
    usable = info.cpus.count and info.memory.mib and "hvm" in (info.virtualization or ["hvm"])
    if not offered or not capacity_types or not usable or 0 < info.network.ipv4_addresses_per_interface < ADDRESSES:
        return None
    gpus = [gpu for gpu in (info.gpu_info.gpus if info.gpu_info else ()) if gpu.manufacturer.upper() == "NVIDIA"]
    nvme = info.storage if info.storage is not None and info.storage.nvme in ("required", "supported") else None
    return Machine(
        info.instance_type,
        offered[0],
        info.cpus.count,
        info.memory.mib,
        sorted(set(capacity_types)),
        info.is_current,
        info.is_metal,
        info.burstable,
        sum(gpu.count for gpu in gpus),
        gpus[0].name if gpus else "",
        min((gpu.memory_info.mib for gpu in gpus), default=0),
        nvme.total_gb if nvme is not None else 0,
        info.network.maximum_network_interfaces,
        info.network.ipv4_addresses_per_interface,
        info.volumes.maximum_ebs_attachments,
        info.volumes.ebs_optimized_info.baseline_mb_per_s,
        sum(disks.count for disks in nvme.disks) if nvme is not None else 0,
        _count_ipv6(info.network),
    )


def _count_ipv6(network: Network) -> int:
    if network.ipv6_supported is None:
        return -1
    return network.ipv6_addresses_per_interface if network.ipv6_supported else 0


def has_ipv6(machine: Machine, addresses: int) -> bool:
    """Whether an instance may have so many, as far as is known."""
    return machine.ipv6_addresses < 0 or machine.ipv6_addresses >= addresses


def build_traits(machine: Machine, disks: DiskTerms = NO_TERMS) -> MachineTraits:
    """For sizing."""
    baseline, burst = (find_baseline_milli(machine), find_burst_price(machine)) if machine.is_burstable else (0, 0.0)
    return MachineTraits(
        os_memory_bytes=compute_os_memory(machine),
        gpu_name=machine.gpu_name,
        gpu_memory_bytes=machine.gpu_mib * MIB,
        local_disk_bytes=machine.local_disk_gb * GB,
        baseline_cpu_milli=baseline,
        burst_price_per_cpu=burst,
        is_current=machine.is_current,
        is_metal=machine.is_metal,
        interfaces=machine.interfaces,
        addresses_per_interface=machine.addresses,
        volumes=machine.volumes,
        volume_bytes_per_s=int(machine.volume_mb_per_s * 1_000_000),
        local_disks=machine.local_disks,
        store_bytes=compute_store(machine) if disks.has_store else 0,
        root_price_per_gib=disks.root_price,
        volume_rates=disks.rates,
    )


def compute_os_memory(machine: Machine) -> int:
    """Bytes that the operating system is expected to have; rounded down to a page of 4 KiB."""
    memory = machine.memory_mib * MIB
    if machine.architecture == "arm64":
        memory = max(0, memory - ARM64_LOSS_MIB * MIB)
    return (memory - math.ceil(memory * MEMORY_LOSS)) // 4096 * 4096


def compute_store(machine: Machine) -> int:
    """Bytes that files can have on the local disks, joined."""
    return int(machine.local_disk_gb * GB * (1 - STORE_LOSS))


def find_baseline_milli(machine: Machine) -> int:
    """Millicores that a burstable type may use for ever at its plain price."""
    family, _, size = machine.instance_type.partition(".")
    percent = BASELINE_PERCENT.get(family, BASELINE_PERCENT[""]).get(size, UNKNOWN_BASELINE_PERCENT)
    return int(machine.cpus * 10 * percent)


def find_burst_price(machine: Machine) -> float:
    family = machine.instance_type.partition(".")[0]
    return BURST_PRICES.get(family, BURST_PRICES[""])
