"""What the versions of a pod say of its containers. Pure."""

from __future__ import annotations

from tests.differential.history import History
from vk_provider.jsontypes import Json

NEVER_THERE = "ContainerStatusUnknown"
STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def statuses_of(pod: Json, name: str) -> list[Json]:
    """The status of a container, [] when the pod has none."""
    status = pod.get("status", {})
    return [each for key in STATUS_LISTS for each in status.get(key) or () if each["name"] == name]


def running_of(pod: Json) -> frozenset[str]:
    """Names of the containers that run."""
    status = pod.get("status", {})
    return frozenset(
        str(each["name"])
        for key in STATUS_LISTS
        for each in status.get(key) or ()
        if "running" in (each.get("state") or {})
    )


def has_run(side: History, name: str) -> bool:
    """Whether the container was ever there; one that never was may be said to have ended, see `terminated` of a pod
    that ends while it waits (convertToAPIContainerStatuses)."""
    return any(
        "running" in state or state.get("terminated", {}).get("reason", NEVER_THERE) != NEVER_THERE
        for item in side.versions
        for each in statuses_of(item.pod, name)
        for state in (each.get("state") or {}, each.get("lastState") or {})
    )
