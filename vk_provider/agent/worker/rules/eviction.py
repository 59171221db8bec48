"""Local storage limits: emptyDir sizeLimit and ephemeral-storage limits of containers and pod. Pure.

Source: pkg/kubelet/eviction/eviction_manager.go, localStorageEviction (v1.37).
"""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.agent.worker.rules.spec import regular_containers, spec_of
from vk_provider.jsontypes import Json
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.resources import effective_resources

EPHEMERAL_STORAGE = "ephemeral-storage"
GRACE_PERIOD_S = 1


def has_local_storage_limit(pod: Json) -> bool:
    """Is there anything to watch?"""
    volumes = spec_of(pod).get("volumes") or []
    return any((volume.get("emptyDir") or {}).get("sizeLimit") for volume in volumes) or bool(
        effective_resources(pod, "limits").get(EPHEMERAL_STORAGE)
    )


def find_exceeded_limit(pod: Json, volume_bytes: Mapping[str, int], container_bytes: Mapping[str, int]) -> str:
    """Return the message of the eviction, "" when every limit is kept.

    volume_bytes:    emptyDir volumes on disk or in memory, by name
    container_bytes: writable layer plus logs of a container, by name
    """
    for volume in spec_of(pod).get("volumes") or []:
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit and parse_quantity(limit) and volume_bytes.get(volume["name"], 0) > parse_quantity(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    pod_limit = effective_resources(pod, "limits").get(EPHEMERAL_STORAGE)
    containers = regular_containers(pod)
    if pod_limit and _every_container_limited(pod):
        on_disk = sum(size for name, size in volume_bytes.items() if not _is_memory_volume(pod, name)) + sum(
            container_bytes.values()
        )
        if on_disk > pod_limit:
            text = _shown_pod_limit(pod, containers)
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
    for container in containers:
        limit = ((container.get("resources") or {}).get("limits") or {}).get(EPHEMERAL_STORAGE)
        if limit and container_bytes.get(container["name"], 0) > parse_quantity(limit):
            return f'Container {container["name"]} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def _every_container_limited(pod: Json) -> bool:
    return all(
        EPHEMERAL_STORAGE in ((container.get("resources") or {}).get("limits") or {})
        for container in regular_containers(pod)
    )


def _shown_pod_limit(pod: Json, containers: list[Json]) -> str:
    limits = [container["resources"]["limits"][EPHEMERAL_STORAGE] for container in containers]
    if len(limits) == 1:
        return str(limits[0])
    return str(int(effective_resources(pod, "limits")[EPHEMERAL_STORAGE]))


def _is_memory_volume(pod: Json, name: str) -> bool:
    volumes = {volume["name"]: volume for volume in spec_of(pod).get("volumes") or []}
    return (volumes.get(name, {}).get("emptyDir") or {}).get("medium") == "Memory"
