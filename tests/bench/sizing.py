"""CPU time of sizing: 1,000 pods of different shapes against a catalog of 2,000 instance types.

python -m tests.bench.sizing
"""

from __future__ import annotations

import random
import time
from typing import Any

from vk_provider.cloud.base import MachineTraits, Offering
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Selection

TYPES, PODS = 2000, 1000
ZONES = ("a", "b", "c")
GIB = 2**30


def build_catalog(seed: int = 1) -> list[Offering]:
    """2,000 types in three zones, on demand and spot: 12,000 offerings."""
    dice = random.Random(seed)
    found = []
    for number in range(TYPES):
        cpus = dice.choice((1, 2, 4, 8, 16, 32, 48, 64, 96, 192))
        memory = cpus * dice.choice((2, 4, 8, 16)) * GIB
        bursts = number % 40 == 0
        traits = MachineTraits(
            os_memory_bytes=int(memory * 0.925),
            local_disk_bytes=dice.choice((0, 0, 118 * GIB)),
            baseline_cpu_milli=cpus * 200 if bursts else 0,
            burst_price_per_cpu=0.05 if bursts else 0.0,
            is_current=dice.random() > 0.2,
        )
        price = cpus * dice.uniform(0.03, 0.06)
        architecture = dice.choice(("amd64", "amd64", "arm64"))
        name = f"f{number // 10}.size{number % 10}"
        for zone in ZONES:
            for capacity_type, factor in (("on-demand", 1.0), ("spot", dice.uniform(0.2, 0.9))):
                found.append(
                    Offering(name, zone, capacity_type, architecture, cpus * 1000, memory, price * factor, 0, traits)
                )
    return found


def build_pods(seed: int = 2) -> list[dict[str, Any]]:
    """No two of them ask for the same."""
    dice = random.Random(seed)
    found = []
    for number in range(PODS):
        requests = {"cpu": f"{100 + number * 17}m", "memory": f"{dice.randrange(64, 60_000)}Mi"}
        annotations = dice.choice(
            (
                {},
                {},
                {"vk-provider/capacity-type": "spot,on-demand"},
                {"vk-provider/instance-family": f"f{number % 20}*"},
                {"vk-provider/zone": dice.choice(ZONES)},
            )
        )
        found.append(
            {"metadata": {"annotations": annotations}, "spec": {"containers": [{"resources": {"requests": requests}}]}}
        )
    return found


def main() -> None:
    catalog, pods = build_catalog(), build_pods()
    preferences = Preferences(default_architecture="amd64")
    began = time.process_time()
    selector = OfferingSelector(catalog)
    built = time.process_time()
    nothing = frozenset[tuple[str, str, str]]()
    answers = [selector.select(pod, nothing, preferences) for pod in pods]
    ended = time.process_time()
    chosen = sum(isinstance(answer, Selection) for answer in answers)
    print(f"{len(catalog)} offerings of {TYPES} types indexed in {built - began:.3f} s of CPU")
    print(f"{PODS} pods sized in {ended - built:.3f} s of CPU, {chosen} of them have an instance")


if __name__ == "__main__":
    main()
