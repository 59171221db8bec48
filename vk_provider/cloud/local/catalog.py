"""Offerings of the local cloud: two families of small burstable types, two zones, on demand and spot.

Prices are invented but proportioned like a real cloud's (a vCPU costs about ten times a GiB, spot a third).
"""

from __future__ import annotations

import platform

from vk_provider.cloud.base import Offering
from vk_provider.cloud.pricelist import PriceList, PriceRow

GIB = 2**30
ZONES = ("local-a", "local-b")
ON_DEMAND = "on-demand"
SPOT = "spot"

_SIZES = {"nano": 250, "micro": 500, "small": 1000, "medium": 2000, "large": 4000, "xlarge": 8000}
_FAMILIES = {"l1": 2, "m1": 4}
"""Family -> GiB of memory per vCPU."""
_CPU_PRICE = 0.0200
_MEMORY_PRICE = 0.0020
_ZONE_FACTOR = {"local-a": 1.0, "local-b": 1.05}
_SPOT_FACTOR = {"local-a": 0.35, "local-b": 0.30}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def machine_architecture() -> str:
    """The architecture of this machine by its Kubernetes name."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def build_offerings(architecture: str, max_memory_bytes: int | None = None) -> list[Offering]:
    """All offerings, cheapest first. Types with more memory than `max_memory_bytes` (the machine's) are left out; CPU
    may be overcommitted, as with burstable types."""
    offerings = [
        Offering(
            instance_type=f"{family}.{size}",
            zone=zone,
            capacity_type=capacity_type,
            architecture=architecture,
            cpu_milli=cpu_milli,
            memory_bytes=cpu_milli * ratio * GIB // 1000,
            price_per_hour=_price(cpu_milli, ratio, zone, capacity_type),
        )
        for family, ratio in _FAMILIES.items()
        for size, cpu_milli in _SIZES.items()
        for zone in ZONES
        for capacity_type in (ON_DEMAND, SPOT)
        if max_memory_bytes is None or cpu_milli * ratio * GIB // 1000 <= max_memory_bytes
    ]
    return sorted(offerings, key=lambda o: (o.price_per_hour, o.instance_type, o.zone, o.capacity_type))


def list_prices() -> PriceList:
    """For `vk-provider prices`."""
    rows = [PriceRow(offering, "invented") for offering in build_offerings(machine_architecture())]
    return PriceList(rows, ("Prices of the local cloud are invented: it costs what the machine costs",))


def _price(cpu_milli: int, ratio: int, zone: str, capacity_type: str) -> float:
    cpus = cpu_milli / 1000
    full = (cpus * _CPU_PRICE + cpus * ratio * _MEMORY_PRICE) * _ZONE_FACTOR[zone]
    return round(full * (_SPOT_FACTOR[zone] if capacity_type == SPOT else 1.0), 6)
