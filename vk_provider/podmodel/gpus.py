"""Which of its instance's GPUs each container has. Pure.

The instance is the pod's alone, so its GPUs are numbered from 0 and given out in the order of the pod's containers.
Containers that run at the same time share none. What an init container has had, those after it may have.
"""

from __future__ import annotations

import math

from vk_provider.jsontypes import Json
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers

GPU = "nvidia.com/gpu"
"""The resource; and the kind of the devices in the CDI specification that NVIDIA's container toolkit makes, where a GPU
is named by its index."""


def asks_for_gpus(pod: Json) -> bool:
    return any(count_gpus(container) for container in (*init_containers(pod), *regular_containers(pod)))


def count_gpus(container: Json) -> int:
    """That a container asks for. Of an extended resource the request is the limit."""
    resources = container.get("resources") or {}
    asked = (resources.get("limits") or {}).get(GPU) or (resources.get("requests") or {}).get(GPU) or 0
    return max(0, math.ceil(parse_quantity(asked)))


def allot_gpus(pod: Json, name: str) -> range:
    """Indices of the GPUs of the container with that name. None is beyond what the pod asks for as a whole."""
    first = 0
    for container in init_containers(pod):
        count = count_gpus(container)
        if container["name"] == name:
            return range(first, first + count)
        first += count if is_sidecar(container) else 0
    for container in regular_containers(pod):
        count = count_gpus(container)
        if container["name"] == name:
            return range(first, first + count)
        first += count
    return range(0)
