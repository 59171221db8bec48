"""Computes the size of the instance that a pod needs: its effective requests plus the instance's own use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from vk_provider.cloud.base import Offering
from vk_provider.jsontypes import Json
from vk_provider.podmodel.extendedresources import is_extended_resource
from vk_provider.podmodel.gpus import GPU
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.resources import effective_resources
from vk_provider.podmodel.resourceshape import by_resources
from vk_provider.sizing.preferences import Preferences

_BURST = ("cpu", "memory", "ephemeral-storage")
_KNOWN = ("cpu", "memory", "ephemeral-storage", GPU)


@dataclass(frozen=True, slots=True)
class Need:
    """What an offering must have, and the pod's own part of it.

    steady_cpu_milli: what the pod may be expected to use all the time: its request
    unknown: a requested resource of machines that no offering has (huge pages), "" when there is none. Extended
             resources are the Node's: admission counts them, and no instance type is asked for them
    """

    cpu_milli: int
    memory_bytes: int
    gpus: int
    disk_bytes: int
    pod_cpu_milli: int
    pod_memory_bytes: int
    steady_cpu_milli: int = 0
    unknown: str = ""


def compute_need(pod: Json, preferences: Preferences, *, limits: bool = False) -> Need:
    """Return the need of a pod; requests as the scheduler counts them (init phase, sidecars, pod level, overhead).

    limits: by the pod's limits rather than its requests. On an instance of its own a pod has no idle CPU or memory of
    neighbours to burst into.
    """
    return _need_of(pod, preferences, limits, _sum_empty_dirs(pod) if limits else Fraction(0))


@by_resources
def _need_of(pod: Json, preferences: Preferences, limits: bool, empty_dirs: Fraction) -> Need:
    """empty_dirs: see _sum_empty_dirs."""
    requests = effective_resources(pod, "requests")
    zero = Fraction(0)
    steady = math.ceil(requests.get("cpu", zero) * 1000) or preferences.default_cpu_milli
    if limits:
        most = effective_resources(pod, "limits")
        requests = {**requests, **{name: max(requests.get(name, zero), most.get(name, zero)) for name in _BURST}}
        if not most.get("ephemeral-storage"):
            requests["ephemeral-storage"] = max(requests["ephemeral-storage"], empty_dirs)
    cpu = math.ceil(requests.get("cpu", zero) * 1000) or preferences.default_cpu_milli
    memory = math.ceil(requests.get("memory", zero)) or preferences.default_memory_bytes
    return Need(
        cpu_milli=cpu + preferences.reserved_cpu_milli,
        memory_bytes=memory + preferences.reserved_memory_bytes,
        gpus=math.ceil(requests.get(GPU, zero)),
        disk_bytes=preferences.base_disk_bytes + math.ceil(requests.get("ephemeral-storage", zero)),
        pod_cpu_milli=cpu,
        pod_memory_bytes=memory,
        steady_cpu_milli=steady,
        unknown=next((name for name, amount in requests.items() if amount and not _is_known(name)), ""),
    )


def _sum_empty_dirs(pod: Json) -> Fraction:
    """Bytes of the sizeLimits of emptyDir volumes on disk. A limit of ephemeral storage counts them in, and a kubelet
    evicts the pod beyond either."""
    volumes = [volume["emptyDir"] for volume in (pod.get("spec") or {}).get("volumes") or () if volume.get("emptyDir")]
    sizes = (parse_quantity(source.get("sizeLimit") or 0) for source in volumes if not source.get("medium"))
    return sum(sizes, Fraction(0))


def _is_known(name: str) -> bool:
    return name in _KNOWN or is_extended_resource(name)


def compute_allocatable(offering: Offering, preferences: Preferences) -> dict[str, str]:
    """Allocatable resources of an instance, as quantities: the downward API's default for limits that are not set."""
    memory = max(0, offering.usable_memory_bytes - preferences.reserved_memory_bytes)
    return {
        "cpu": format_cpu(max(0, offering.cpu_milli - preferences.reserved_cpu_milli)),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{preferences.base_disk_bytes // 1024}Ki",
    }


def format_cpu(cpu_milli: int) -> str:
    """A CPU quantity: 1500 -> 1500m, 2000 -> 2."""
    return f"{cpu_milli // 1000}" if cpu_milli % 1000 == 0 else f"{cpu_milli}m"


def format_memory(memory_bytes: int) -> str:
    """A memory quantity for people, in Gi or Mi with at most one decimal."""
    for unit, size in (("Gi", 2**30), ("Mi", 2**20)):
        if memory_bytes >= size:
            return f"{memory_bytes / size:.1f}".removesuffix(".0") + unit
    return str(memory_bytes)
