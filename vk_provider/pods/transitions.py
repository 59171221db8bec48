"""Transitions of container states that the API forbids: a status that would be one stays as the API holds it. Pure.

Why in the provider and not in the agent: only here it is known what the API holds, whoever wrote it. A kubelet compares
with what it told last and drops the whole status (checkContainerStateTransition, pkg/kubelet/status/status_manager.go,
v1.37), and the API refuses the whole PATCH. Here everything else of the status goes on, and the container's own newer
state follows as soon as the API can take it: when the container has ended again.
"""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.jsontypes import Json
from vk_provider.podmodel.restart import all_containers_could_restart, decide_restart
from vk_provider.podmodel.spec import STATUS_LISTS


def keep_final_ends(pod: Json, held: Json | None, status: Json) -> Json:
    """`status` with the container statuses that the API holds (`held`) where it would refuse the new ones; the same
    object when it refuses none."""
    if held is None:
        return status
    kept: Json = {}
    for field, spec_field in STATUS_LISTS.items():
        final = {item["name"]: item for item in held.get(field) or () if _is_final(pod, spec_field, item)}
        if not final:
            continue
        news = status.get(field) or []
        if any(_leaves_end(item, final) for item in news):
            kept[field] = [final[item["name"]] if _leaves_end(item, final) else item for item in news]
    return {**status, **kept} if kept else status


def _leaves_end(item: Json, final: Mapping[str, Json]) -> bool:
    return item["name"] in final and (item.get("state") or {}).get("terminated") is None


def _is_final(pod: Json, spec_field: str, held: Json) -> bool:
    """Source: ValidateContainerStateTransition and its siblings in pkg/apis/core/validation/validation.go (v1.37)."""
    ended = (held.get("state") or {}).get("terminated")
    if ended is None:
        return False
    if spec_field == "ephemeralContainers":
        return True
    if all_containers_could_restart(pod):
        return False
    spec = next((each for each in pod["spec"].get(spec_field) or [] if each["name"] == held["name"]), None)
    # is_init=False: the API asks the policy alone, also of an init container that has succeeded.
    return spec is None or not decide_restart(pod, spec, int(ended.get("exitCode") or 0), is_init=False)
