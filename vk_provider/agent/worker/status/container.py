"""From the runtime's containers to the API's ContainerStatus lists. Pure.

Source of the rules: convertToAPIContainerStatuses in pkg/kubelet/kubelet_pods.go (v1.37).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vk_provider.agent.volumes.container_mounts import resolve_recursive_read_only
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.podstate import regular_container_created, should_restart_container
from vk_provider.agent.worker.rules.restarts import held_status
from vk_provider.agent.worker.rules.spec import (
    ContainerKind,
    ephemeral_containers,
    init_containers,
    is_deleted,
    is_sidecar,
    regular_containers,
)
from vk_provider.agent.worker.status.resources import build_resources_status
from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import ContainerConfigError
from vk_provider.rfc3339 import format_time

RESTARTING_ALL = "RestartingAllContainers"
_RESTARTING_ALL_MESSAGE = "The container is removed because RestartAllContainers in place"
_MAX_POD_MESSAGE_BYTES = 12 * 1024


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the statuses are computed from, beside the pod (with its allocated resources) and the observation.

    previous:       the last computed PodStatus ({}: none)
    failures:       container name -> (reason, message) of the last start that failed
    actuated:       container name -> resources that the runtime was given last, with inherited limits
    recursive_read_only: the runtime can mount read-only recursively
    restarts:       container name -> ID of the container before the one that the pass under way starts
    """

    previous: Json
    probes: ProbeResults
    failures: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    actuated: Mapping[str, Json] = field(default_factory=dict)
    restarting_all: bool = False
    recursive_read_only: bool = False
    restarts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusLists:
    init: list[Json]
    regular: list[Json]
    ephemeral: list[Json]


def compute_statuses(pod: Json, observed: Observation, inputs: StatusInputs) -> StatusLists:
    """All three lists: init containers in spec order, the others by name; started and ready filled in."""
    lists: dict[ContainerKind, list[Json]] = {}
    kinds: tuple[tuple[ContainerKind, list[Json], str], ...] = (
        ("init", init_containers(pod), "initContainerStatuses"),
        ("regular", regular_containers(pod), "containerStatuses"),
        ("ephemeral", ephemeral_containers(pod), "ephemeralContainerStatuses"),
    )
    for kind, containers, key in kinds:
        old = {status["name"]: status for status in inputs.previous.get(key) or []}
        statuses = [_current_status(pod, c, kind, observed, old.get(c["name"]), inputs) for c in containers]
        lists[kind] = statuses if kind == "init" else sorted(statuses, key=lambda status: status["name"])
    _limit_messages(lists["init"] + lists["regular"] + lists["ephemeral"])
    return StatusLists(lists["init"], lists["regular"], lists["ephemeral"])


def is_started(container: Json, container_id: str, probes: ProbeResults) -> bool:
    """Has a running container passed its startup probe (or has none)?"""
    return not container.get("startupProbe") or probes.startup.get(container_id) == "success"


def _current_status(
    pod: Json, container: Json, kind: ContainerKind, observed: Observation, old: Json | None, inputs: StatusInputs
) -> Json:
    held = held_status(container["name"], observed, old, inputs.restarts)
    if held is not None:
        return held
    status = _compute_status(pod, container, kind, observed, old, inputs)
    _set_readiness(container, kind, status, inputs.probes)
    return status


def _compute_status(
    pod: Json, container: Json, kind: ContainerKind, observed: Observation, old: Json | None, inputs: StatusInputs
) -> Json:
    name = container["name"]
    history = observed.history(name)
    if history:
        status = _convert(pod, container, history[0], old, inputs)
        if len(history) > 1:
            status["lastState"] = _convert(pod, container, history[1], old, inputs)["state"]
    else:
        status = _never_seen(pod, container, old, inputs)
    if kind == "init":
        newest = history[0] if history else None
        if newest is not None and newest.state is State.EXITED and newest.exit_code == 0:
            return status
        if newest is None and _assume_completed(pod, container, observed, status):
            return status
    failure = inputs.failures.get(name)
    if failure is not None and should_restart_container(pod, container, observed):
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {"waiting": _drop_empty({"reason": failure[0], "message": failure[1]})}
    return status


def _base(container: Json, inputs: StatusInputs) -> Json:
    status: Json = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "state": {},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
    }
    mounts = [_mount_status(mount, inputs.recursive_read_only) for mount in container.get("volumeMounts") or []]
    if mounts:
        status["volumeMounts"] = mounts
    return status


def _mount_status(mount: Json, recursive_read_only: bool) -> Json:
    status: Json = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status["readOnly"] = True
        try:
            recursive = resolve_recursive_read_only(mount, recursive_read_only)
        except ContainerConfigError:  # reported by the start of the container
            recursive = False
        status["recursiveReadOnly"] = "Enabled" if recursive else "Disabled"
    return status


def _default_waiting(pod: Json) -> Json:
    return {"waiting": {"reason": "PodInitializing" if init_containers(pod) else "ContainerCreating"}}


def _never_seen(pod: Json, container: Json, old: Json | None, inputs: StatusInputs) -> Json:
    """The runtime knows no such container: it was never created, or it was removed."""
    status = _base(container, inputs)
    status["state"] = _default_waiting(pod)
    if old is None:
        return status
    old_state = old.get("state") or {}
    if "terminated" in old_state:
        status = dict(old)
    else:
        status["restartCount"] = old.get("restartCount", 0)
        status["lastState"] = old.get("lastState") or {}
    if inputs.restarting_all and "waiting" not in old_state:
        status["state"] = {"waiting": {"reason": RESTARTING_ALL, "message": _RESTARTING_ALL_MESSAGE}}
        # Also when it had ended before, as the kubelet does it: how it ended is not why it starts again.
        status["lastState"] = {"terminated": _lost_end(RESTARTING_ALL, _RESTARTING_ALL_MESSAGE)}
        status["restartCount"] = old.get("restartCount", 0) + 1
    elif "running" in old_state and "terminated" not in status["lastState"]:
        message = "The container could not be located when the pod was deleted.  The container used to be Running"
        status["lastState"] = {"terminated": _lost_end("ContainerStatusUnknown", message)}
        if not is_deleted(pod):
            status["restartCount"] += 1
    return status


def _lost_end(reason: str, message: str) -> Json:
    """The terminated state of a container that the runtime does not list any more."""
    return {"reason": reason, "message": message, "exitCode": 137, "startedAt": None, "finishedAt": None}


def _assume_completed(pod: Json, container: Json, observed: Observation, status: Json) -> bool:
    """A finished init container that the runtime forgot: regular containers exist, so it must have succeeded."""
    if is_sidecar(container) or not regular_container_created(pod, observed) or "waiting" not in status["state"]:
        return False
    status["state"] = {
        "terminated": {
            "exitCode": 0,
            "reason": "Completed",
            "message": "Unable to get init container status from container runtime and pod has been initialized, "
            "treat it as exited normally",
            "startedAt": None,
            "finishedAt": None,
        }
    }
    return True


def _convert(pod: Json, container: Json, record: ObservedContainer, old: Json | None, inputs: StatusInputs) -> Json:
    status = _base(container, inputs)
    container_id = f"containerd://{record.id}"
    status.update(
        image=record.image or container.get("image", ""),
        imageID=record.image_ref,
        containerID=container_id,
        restartCount=record.restart_count,
        state=_convert_state(pod, record, container_id),
    )
    if old is not None:
        _carry_over(status, record, old)
        if record.state is State.UNKNOWN and "running" in (old.get("state") or {}):
            reason = RESTARTING_ALL if inputs.restarting_all else "ContainerStatusUnknown"
            message = "The container could not be located when the pod was terminated"
            status["state"] = {"terminated": _lost_end(reason, message)}
            status["restartCount"] = old.get("restartCount", 0) + 1  # the runtime did not count this end
    resources, allocated = build_resources_status(container, record, inputs.actuated.get(container["name"]), old)
    status["resources"] = resources
    if allocated:
        status["allocatedResources"] = allocated
    if record.user is not None:
        status["user"] = record.user
    return status


def _carry_over(status: Json, record: ObservedContainer, old: Json) -> None:
    """Keep counts and last states of containers that were removed from the runtime (RestartAllContainers)."""
    status["restartCount"] = max(status["restartCount"], old.get("restartCount", 0))
    old_ended = (old.get("state") or {}).get("terminated")
    last_ended = (old.get("lastState") or {}).get("terminated")
    if old.get("containerID") != status["containerID"] and old_ended:
        status["lastState"] = {"terminated": old_ended}
    elif last_ended:
        status["lastState"] = {"terminated": last_ended}
    if record.state is State.RUNNING and old_ended and old.get("restartCount", 0) >= record.restart_count:
        status["restartCount"] = old.get("restartCount", 0) + 1


def _convert_state(pod: Json, record: ObservedContainer, container_id: str) -> Json:
    if record.state is State.RUNNING:
        return {"running": {"startedAt": format_time(record.started_at_ns // 1_000_000_000)}}
    if record.state is State.EXITED:
        ended = {
            "exitCode": record.exit_code,
            "reason": record.reason,
            "message": record.message,
            "startedAt": format_time(record.started_at_ns // 1_000_000_000),
            "finishedAt": format_time(record.finished_at_ns // 1_000_000_000),
            "containerID": container_id,
        }
        return {"terminated": _drop_empty(ended, keep=("exitCode",))}
    return _default_waiting(pod)


def _set_readiness(container: Json, kind: ContainerKind, status: Json, probes: ProbeResults) -> None:
    if kind == "ephemeral":
        status["ready"] = False
        return
    container_id = str(status.get("containerID", "")).removeprefix("containerd://")
    running = "running" in status["state"]
    status["started"] = running and is_started(container, container_id, probes)
    if kind == "init" and not is_sidecar(container):
        status["ready"] = (status["state"].get("terminated") or {}).get("exitCode") == 0
        return
    passed = not container.get("readinessProbe") or probes.readiness.get(container_id) == "success"
    status["ready"] = bool(status["started"] and passed)


def _limit_messages(statuses: list[Json]) -> None:
    """All termination messages of a pod share 12 KiB."""
    limit = _MAX_POD_MESSAGE_BYTES // max(1, len(statuses))
    for status in statuses:
        for key in ("state", "lastState"):
            ended = status[key].get("terminated")
            message = (ended or {}).get("message") or ""
            if ended and len(message.encode()) > limit:
                cut = message.encode()[:limit].decode(errors="ignore")
                status[key] = {"terminated": {**ended, "message": cut}}


def _drop_empty(document: dict[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value or key in keep}
