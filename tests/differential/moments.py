"""What happened to a pod and its containers at a moment, as its history shows it. Pure."""

from __future__ import annotations

import re

from tests.differential.containers import running_of, statuses_of
from tests.differential.history import History, SeenEvent
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import parse_time

EDGE_S = 3.0
"""An event that comes so shortly before the pod's deletion may have been due just after it on the other side."""
LAG_S = 0.2
"""By which the watch of events may be behind that of pods."""
MOMENT_S = 2.5
"""Within which two pods may be in another step: a tick of the kubelet's PLEG (1 s), a sync and the status's batch."""
KILLED = re.compile(r"will be restarted|^Init container \S+ failed (liveness|startup) probe")
"""What is said of a container, and of a sidecar, that is stopped to be started again."""
BY_SIGNAL = (137, 143)
"""Exit codes of a container that was stopped."""
STATUS_LAG_S = 2.0
"""By which a status may be behind the containers: a tick of the kubelet's PLEG and its PATCH, in whole seconds."""


def is_just_before_deletion(side: History, moment: float) -> bool:
    return side.deleted is not None and side.deleted - EDGE_S < moment < side.deleted + LAG_S


def container_of(where: str) -> str:
    found = re.fullmatch(r"spec\.\w+\{(.+)\}", where)
    return found[1] if found else ""


def place_of(seen: SeenEvent) -> str:
    return str(seen.event["involvedObject"].get("fieldPath", ""))


def text_of(seen: SeenEvent) -> str:
    return str(seen.event.get("message", ""))


def kills_for_probes(side: History, name: str) -> list[float]:
    """When the container was stopped for its probe, to be started again."""
    return [
        seen.last
        for seen in side.events.values()
        if KILLED.search(text_of(seen)) and container_of(place_of(seen)) == name
    ]


def runs_at_deletion(side: History, name: str) -> bool:
    if side.deleted is None:
        return False
    return any(_runs(pod, name) for pod in side.between(side.deleted - 0.001, side.deleted - 0.001)[-1:])


def ends_as_it_is_deleted(side: History, name: str) -> bool:
    """Whether the container, which the status still shows as running, was ending then: by itself, or for its probe."""
    if any(is_just_before_deletion(side, moment) for moment in kills_for_probes(side, name)):
        return True
    asked = next((t for item in side.versions if (t := _asked_to_go(item.pod)) is not None), None)
    ends = [
        parse_time(end["finishedAt"])
        for item in side.versions
        for each in statuses_of(item.pod, name)
        for end in _ends(each)
        if end.get("finishedAt") and end.get("exitCode") not in BY_SIGNAL
    ]
    return asked is not None and any(asked - STATUS_LAG_S <= end <= asked + 1 for end in ends)


def _asked_to_go(pod: Json) -> float | None:
    """When the pod was deleted, by the API server's clock in whole seconds; None while it is not."""
    metadata = pod["metadata"]
    if not metadata.get("deletionTimestamp"):
        return None
    return parse_time(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)


def _ends(container: Json) -> list[Json]:
    states = (container.get("state") or {}, container.get("lastState") or {})
    return [state["terminated"] for state in states if "terminated" in state]


def has_changed_before_deletion(sides: tuple[History, History], name: str) -> bool:
    """Whether the container began or ended on one of the sides just before its deletion."""
    for side in sides:
        if side.deleted is None:
            return False
        looks = {_runs(pod, name) for pod in side.between(side.deleted - MOMENT_S, side.deleted - 0.001)}
        if len(looks) > 1:
            return True
    return False


def _runs(pod: Json, name: str) -> bool:
    return name in running_of(pod)


def restarts(side: History, name: str) -> int:
    return max(
        (each.get("restartCount") or 0 for item in side.versions for each in statuses_of(item.pod, name)), default=0
    )


def ends_of(side: History, name: str) -> int:
    """How often a container may have ended: before each restart, and at last."""
    return restarts(side, name) + 1


def ends_near(side: History, name: str, moment: float) -> bool:
    """Whether the container has ended about then: it runs no more, or it is another one that does."""
    if side.gone is not None and side.gone < moment + MOMENT_S:
        return True
    pods = side.between(moment - MOMENT_S, moment + MOMENT_S)
    return len({(_runs(pod, name), *(each.get("restartCount") for each in statuses_of(pod, name))) for pod in pods}) > 1


def has_ended_before(side: History, moment: float) -> bool:
    """Whether the pod had a terminal phase then, or was being deleted."""
    if side.deleted is not None and side.deleted <= moment:
        return True
    ended = ("Succeeded", "Failed")
    return any(item.at <= moment and item.pod.get("status", {}).get("phase") in ended for item in side.versions)


def image_changed_after(side: History, name: str, moment: float) -> float | None:
    """When the container was given another image, first after the moment."""
    before: str | None = None
    for item in side.versions:
        image = next((each.get("image") for each in spec_containers(item.pod) if each["name"] == name), None)
        if item.at > moment and before is not None and image != before:
            return item.at
        before = image
    return None


def resources_before(side: History, generation: int) -> list[Json]:
    """Resources by container of the pods before this generation."""
    return [
        {each["name"]: each.get("resources") or {} for each in spec_containers(item.pod)}
        for item in side.versions
        if int(item.pod["metadata"].get("generation") or 0) < generation
    ]


def spec_containers(pod: Json) -> list[Json]:
    """Init containers first."""
    spec = pod.get("spec", {})
    return [*spec.get("initContainers", ()), *spec.get("containers", ())]
