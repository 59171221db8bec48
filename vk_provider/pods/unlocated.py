"""The last status of a pod whose containers no instance has: it ends before it has one, or nobody saw its end. Pure;
`now` is RFC 3339.

A kubelet comes to it where its container runtime knows nothing of the pod: generateAPIPodStatus with
convertToAPIContainerStatuses (pkg/kubelet/kubelet_pods.go), then TerminatePod (pkg/kubelet/status/status_manager.go;
v1.37). Unlike there, the addresses stay, since they are where the pod has run.
"""

from __future__ import annotations

from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import settle_ready
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.phase import TERMINAL_PHASES, Phase
from vk_provider.podmodel.spec import init_containers, is_sidecar
from vk_provider.podmodel.status import (
    ContainerStatuses,
    Ending,
    PodEnd,
    SandboxFacts,
    build_pod_status,
    find_unlocated,
    mark_unlocated,
)

USED_TO_RUN = "The container could not be located when the pod was deleted.  The container used to be Running"
_CARRIED = ("phase", "reason", "message", "conditions", "podIPs", "resources")


def build_unlocated_status(
    pod: Json, known: Json, start_time: str, host_ips: tuple[str, ...], now: str, cause: PodEnd | None = None
) -> Json:
    """The status with a terminal phase and an end for each container that may have run.

    known:    the newest PodStatus, {} for none. Ends that it tells stay, and make the phase; a terminal phase stays.
    host_ips: of the Node, for a pod that `known` places nowhere
    cause:    why it fails, whatever its containers did
    """
    before = {**pod, "status": known}
    hosts = tuple(entry["ip"] for entry in known.get("hostIPs") or ()) or host_ips
    status = build_pod_status(
        before,
        locate_none(pod, known),
        SandboxFacts(),
        PodContext(host_ips=hosts),
        now,
        ending=Ending(terminating=True, containers_may_run=False, cause=cause),
        previous_status={**{name: known[name] for name in _CARRIED if known.get(name)}, "startTime": start_time},
    )
    mark_unlocated(before, status.get("initContainerStatuses") or [], status["containerStatuses"])
    if status["phase"] not in TERMINAL_PHASES:
        status["phase"] = "Failed"
    status["conditions"] = settle_conditions(status["conditions"], status["phase"], status["observedGeneration"], now)
    return status


def is_untold(pod: Json, status: Json) -> bool:
    """Whether the status of a pod that nothing runs of lacks the end of a container that may have run."""
    statuses = locate_none(pod, status)
    return bool(find_unlocated({**pod, "status": status}, statuses.init, statuses.regular))


def has_ended(pod: Json, status: Json) -> bool:
    """Whether the status says how each regular container ended."""
    regular = locate_none(pod, status).regular
    return all((item["state"] or {}).get("terminated") for item in regular)


def locate_none(pod: Json, known: Json) -> ContainerStatuses:
    """The container statuses of a runtime without containers: ends stay, everything else waits."""
    reason = "PodInitializing" if init_containers(pod) else "ContainerCreating"
    is_deleted = bool(pod["metadata"].get("deletionTimestamp"))

    def of(kind: str, field: str) -> list[Json]:
        old = {item["name"]: item for item in known.get(field) or ()}
        return [
            _locate_none(container, old.get(container["name"]) or {}, reason, is_deleted=is_deleted)
            for container in pod["spec"].get(kind) or []
        ]

    init = of("initContainers", "initContainerStatuses")
    for container, item in zip(init_containers(pod), init, strict=True):
        if not is_sidecar(container) and (item["state"].get("terminated") or {}).get("exitCode") == 0:
            item["ready"] = True
    return ContainerStatuses(
        init, of("containers", "containerStatuses"), of("ephemeralContainers", "ephemeralContainerStatuses")
    )


def _locate_none(container: Json, old: Json, reason: str, *, is_deleted: bool) -> Json:
    state, last = old.get("state") or {}, old.get("lastState") or {}
    if state.get("terminated"):
        return {**old, "started": False}
    status = waiting_status(container, reason)
    status["restartCount"] = old.get("restartCount") or 0
    if state.get("running") and not last.get("terminated"):
        ended = {"reason": "ContainerStatusUnknown", "message": USED_TO_RUN, "exitCode": 137}
        last = {"terminated": {"startedAt": None, "finishedAt": None, **ended}}
        status["restartCount"] += 0 if is_deleted else 1
    if last:
        status["lastState"] = last
    return status


def waiting_status(container: Json, reason: str) -> Json:
    """Of a container that was never created."""
    status: Json = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason}},
    }
    if container.get("volumeMounts"):
        status["volumeMounts"] = [_mount_status(mount) for mount in container["volumeMounts"]]
    return status


def _mount_status(mount: Json) -> Json:
    """Without recursiveReadOnly where it depends on the container runtime, which only the agent knows."""
    status: Json = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status["readOnly"] = True
        if (mount.get("recursiveReadOnly") or "Disabled") == "Disabled":
            status["recursiveReadOnly"] = "Disabled"
    return status


def settle_conditions(conditions: list[Json], phase: Phase, generation: int, now: str) -> list[Json]:
    """For a terminal phase, as mergePodStatus of the kubelet's status manager: only a condition that would be wrong is
    changed."""
    settled = settle_ready(conditions, phase)
    if settled is conditions:
        return conditions
    stamp: Json = {"observedGeneration": generation} if generation else {}
    return [
        new if new is old else {**new, **stamp, "lastTransitionTime": _transition_time(old, new, now)}
        for old, new in zip(conditions, settled, strict=True)
    ]


def _transition_time(old: Json, new: Json, now: str) -> str:
    return str(old.get("lastTransitionTime") or now) if old["status"] == new["status"] else now
