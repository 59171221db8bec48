"""The pod conditions that a kubelet owns. Built without lastTransitionTime; `status` stamps it.

Source: kubelet status generation; KEP-580 readiness gates, KEP-3085 PodReadyToStartContainers, KEP-5067.
"""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES, Phase
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers, spec_of

POD_SCHEDULED = "PodScheduled"
"""The pod is bound to this Node."""
READY_TO_START = "PodReadyToStartContainers"
"""The instance has the pod's sandbox and its network."""
INITIALIZED = "Initialized"
"""The init containers are done; sidecars have started."""
CONTAINERS_READY = "ContainersReady"
"""All containers are ready; false with reason PodCompleted or PodFailed at the end."""
READY = "Ready"
"""As ContainersReady, and the pod's readiness gates hold: Services send to it. Also false while the agent is silent
(reason AgentUnreachable)."""
RESIZE_PENDING = "PodResizePending"
"""A resize that the pod's instance cannot hold (reason Infeasible); never Deferred."""
RESIZE_IN_PROGRESS = "PodResizeInProgress"
"""A resize is being carried out, or failed and is tried again (reason Error)."""
ALL_RESTARTING = "AllContainersRestarting"
"""A restart policy rule restarts all containers of the pod (KEP-5532)."""
DISRUPTION_TARGET = "DisruptionTarget"
"""The pod fails for want of its instance or by eviction (reason TerminationByKubelet), not by its own fault. Shared
with the API server and controllers."""

KUBELET_CONDITIONS = frozenset(
    {
        POD_SCHEDULED,
        READY,
        CONTAINERS_READY,
        INITIALIZED,
        READY_TO_START,
        RESIZE_PENDING,
        RESIZE_IN_PROGRESS,
        ALL_RESTARTING,
    }
)
"""Owned by the kubelet: those that are in the API but not in a new status are removed; others are never changed."""


def find_condition(conditions: Iterable[Json], condition_type: str) -> Json | None:
    """Return the condition of a type, or None."""
    return next((condition for condition in conditions if condition.get("type") == condition_type), None)


def _condition(condition_type: str, holds: bool, reason: str = "", message: str = "") -> Json:
    condition: Json = {"type": condition_type, "status": "True" if holds else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _names(names: list[str]) -> str:
    return "[" + " ".join(names) + "]"


def _terminal_reason(phase: Phase) -> str:
    return "PodFailed" if phase == "Failed" else "PodCompleted"


def build_containers_ready(pod: Json, statuses: list[Json], phase: Phase) -> Json:
    """Build ContainersReady from the statuses of init and regular containers."""
    if not statuses:
        return _condition(CONTAINERS_READY, False, "UnknownContainerStatuses")
    by_name = {status["name"]: status for status in statuses}
    sidecars = [container for container in init_containers(pod) if is_sidecar(container)]
    names = [container["name"] for container in (*sidecars, *regular_containers(pod))]
    unknown = [name for name in names if name not in by_name]
    unready = [name for name in names if name in by_name and not by_name[name].get("ready")]
    if phase == "Failed" or (phase == "Succeeded" and not unknown):
        return _condition(CONTAINERS_READY, False, _terminal_reason(phase))
    parts = [f"containers with unknown status: {_names(unknown)}"] if unknown else []
    parts += [f"containers with unready status: {_names(unready)}"] if unready else []
    if parts:
        return _condition(CONTAINERS_READY, False, "ContainersNotReady", ", ".join(parts))
    return _condition(CONTAINERS_READY, True)


def build_ready(pod: Json, containers_ready: Json, conditions: Iterable[Json]) -> Json:
    """Build Ready: ContainersReady, and every readiness gate's condition is True in `conditions` (the API's newest)."""
    if containers_ready["status"] != "True":
        return {**containers_ready, "type": READY}
    present = list(conditions)
    parts = []
    for gate in spec_of(pod).get("readinessGates") or []:
        gate_type = gate["conditionType"]
        found = find_condition(present, gate_type)
        if found is None:
            parts.append(f'corresponding condition of pod readiness gate "{gate_type}" does not exist.')
        elif found.get("status") != "True":
            parts.append(f'the status of pod readiness gate "{gate_type}" is not "True", but {found.get("status")}')
    if parts:
        return _condition(READY, False, "ReadinessGatesNotReady", ", ".join(parts))
    return _condition(READY, True)


def settle_ready(conditions: list[Json], phase: Phase) -> list[Json]:
    """Return the conditions for a terminal phase: neither Ready nor ContainersReady is True (mergePodStatus)."""
    names = (READY, CONTAINERS_READY)
    if not any(each["type"] in names and each["status"] == "True" for each in conditions):
        return conditions
    reason = _terminal_reason(phase)
    return [_condition(each["type"], False, reason) if each["type"] in names else each for each in conditions]


def find_end(status: Json) -> Json | None:
    """Phase, reason and message of a status whose phase is terminal, else None."""
    if status.get("phase") not in TERMINAL_PHASES:
        return None
    return {name: status[name] for name in ("phase", "reason", "message") if status.get(name)}


def with_end(status: Json, ended: Json) -> Json:
    """The status with the terminal phase `ended` (find_end); the same object when it has that phase."""
    if status.get("phase") == ended["phase"]:
        return status
    settled = {**status, **ended}
    if "conditions" in status:
        settled["conditions"] = settle_ready(status["conditions"], ended["phase"])
    return settled


def build_initialized(pod: Json, statuses: list[Json], phase: Phase, previous: Iterable[Json]) -> Json:
    """Build Initialized; once True it stays True while init containers rerun."""
    if not statuses and init_containers(pod):
        return _condition(INITIALIZED, False, "UnknownContainerStatuses")
    by_name = {status["name"]: status for status in statuses}
    unknown = [each["name"] for each in init_containers(pod) if each["name"] not in by_name]
    incomplete = [
        each["name"]
        for each in init_containers(pod)
        if each["name"] in by_name and not _is_initialized(each, by_name[each["name"]])
    ]
    if phase == "Succeeded" and not unknown:
        return _condition(INITIALIZED, True, "PodCompleted")
    if has_regular_container_started(pod, statuses):
        return _condition(INITIALIZED, True)
    parts = [f"containers with unknown status: {_names(unknown)}"] if unknown else []
    parts += [f"containers with incomplete status: {_names(incomplete)}"] if incomplete else []
    was_true = (find_condition(previous, INITIALIZED) or {}).get("status") == "True"
    if parts and not was_true:
        return _condition(INITIALIZED, False, "ContainersNotInitialized", ", ".join(parts))
    return _condition(INITIALIZED, True)


def _is_initialized(container: Json, status: Json) -> bool:
    return bool(status.get("started") if is_sidecar(container) else status.get("ready"))


def has_regular_container_started(pod: Json, statuses: list[Json]) -> bool:
    """Tell whether a regular container runs or has run."""
    regular = {container["name"] for container in regular_containers(pod)}
    return any(
        status["name"] in regular and ({"running", "terminated"} & (status.get("state") or {}).keys())
        for status in statuses
    )


def build_ready_to_start(sandbox_message: str) -> Json:
    """Build PodReadyToStartContainers; `sandbox_message` says what is wrong with the sandbox, "" when it is usable."""
    if not sandbox_message:
        return _condition(READY_TO_START, True)
    return _condition(READY_TO_START, False, "PodSandboxNotReady", sandbox_message)


def build_all_restarting(phase: Phase, restarting: bool) -> Json:
    """Build AllContainersRestarting (only for pods with such a rule): `restarting` while old containers remain."""
    if phase in ("Succeeded", "Failed"):
        return _condition(ALL_RESTARTING, False, _terminal_reason(phase))
    if not restarting:
        return _condition(ALL_RESTARTING, False)
    return _condition(ALL_RESTARTING, True, "RestartAllContainersStarted", "container exited with restart policy rule")
