"""The pod's phase from its containers' statuses.

Source: kubelet getPhase; "Pod Lifecycle", KEP-753 sidecars. Statuses are the API's ContainerStatus objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vk_provider.jsontypes import Json
from vk_provider.podmodel.restart import decide_restart
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


@dataclass
class _Count:
    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    final: int = 0
    succeeded: int = 0
    pending_init: int = 0
    pending_sidecars: int = 0
    failed_init: int = 0


def compute_phase(pod: Json, statuses: list[Json], terminal: bool, initialized: bool) -> Phase:
    """Return the phase.

    statuses:    of init and regular containers together
    terminal:    the pod is terminating and none of its containers will start again
    initialized: a regular container of the current sandbox was started, so a restarting sidecar is not Pending any more
    """
    by_name = {status["name"]: status for status in statuses}
    count = _Count()
    for container in init_containers(pod):
        if is_sidecar(container):
            _count_sidecar(by_name.get(container["name"]), count)
        else:
            _count_init(pod, container, by_name.get(container["name"]), count)
    for container in regular_containers(pod):
        _count_regular(pod, container, by_name.get(container["name"]), count)
    return _choose(count, terminal, initialized)


def _choose(count: _Count, terminal: bool, initialized: bool) -> Phase:
    if count.failed_init:
        return "Failed"
    if count.pending_init or (count.pending_sidecars and not initialized) or count.waiting or count.unknown:
        return "Pending"
    if count.running:
        return "Running"
    if not count.stopped:
        return "Pending"
    if not terminal and count.stopped != count.final:
        return "Running"
    return "Succeeded" if count.stopped == count.succeeded else "Failed"


def ended_state(status: Mapping[str, Json]) -> Json | None:
    """Return state.terminated, or of a waiting container lastState.terminated; None when it never ended."""
    state: dict[str, Json | None] = status.get("state") or {}
    if state.get("terminated") is not None:
        return state["terminated"]
    if state.get("waiting") is not None:
        last: dict[str, Json | None] = status.get("lastState") or {}
        return last.get("terminated")
    return None


def _restarts(pod: Json, container: Json, ended: Json, is_init: bool) -> bool:
    if ended.get("reason") == "RestartingAllContainers":
        return True
    return decide_restart(pod, container, int(ended.get("exitCode") or 0), is_init).restart


def _count_init(pod: Json, container: Json, status: Json | None, count: _Count) -> None:
    ended = ended_state(status) if status else None
    if ended is None:
        count.pending_init += 1
    elif ended.get("exitCode") and not _restarts(pod, container, ended, True):
        count.failed_init += 1


def _count_sidecar(status: Json | None, count: _Count) -> None:
    state = (status or {}).get("state") or {}
    if status is None:
        count.unknown += 1
    elif "running" in state:
        count.running += 1
        count.pending_sidecars += 0 if status.get("started") else 1
    elif "terminated" in state or ended_state(status):
        pass  # a sidecar that ended says nothing about the phase
    elif "waiting" in state:
        count.waiting += 1
        count.pending_sidecars += 1
    else:
        count.unknown += 1
        count.pending_sidecars += 1


def _count_regular(pod: Json, container: Json, status: Json | None, count: _Count) -> None:
    state = (status or {}).get("state") or {}
    if status is None or not state:
        count.unknown += 1
    elif "running" in state:
        count.running += 1
    elif (ended := ended_state(status)) is None:
        count.waiting += 1
    else:
        count.stopped += 1
        count.final += 0 if _restarts(pod, container, ended, False) else 1
        if "terminated" in state and not ended.get("exitCode"):
            count.succeeded += 1
