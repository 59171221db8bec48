"""What a node says of a pod before its sandbox is there. Pure."""

from __future__ import annotations

from tests.differential.history import History, has_begun
from tests.differential.normalise import Own, normalise_status
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import KUBELET_CONDITIONS


def early_conditions(side: History, own: Own) -> list[Json]:
    """Of each status from the first with a startTime until the sandbox is ready, a container has begun or the pod is
    deleted: the node's conditions as {"conditions": ...}; those of others may come before it or after."""
    found = []
    for version in side.versions:
        status = normalise_status(version.pod, own)
        sandbox = status.get("conditions", {}).get("PodReadyToStartContainers", {})
        if (
            sandbox.get("status") == "True"
            or has_begun(version.pod)
            or version.pod["metadata"].get("deletionTimestamp")
        ):
            break
        if status.get("startTime"):
            found.append({"conditions": _without_generation(status.get("conditions", {}))})
    return found


def _without_generation(conditions: Json) -> Json:
    words = ("status", "reason", "message")
    own = {name: item for name, item in conditions.items() if name in KUBELET_CONDITIONS}
    return {name: {word: item[word] for word in words if item.get(word)} for name, item in own.items()}
