"""PodStatuses that the provider writes because there is no agent to do it. Pure; `now` is RFC 3339."""

from __future__ import annotations

from vk_provider import eventreasons
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import DISRUPTION_TARGET, READY, settle_ready
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.deadline import DEADLINE_EXCEEDED, DEADLINE_MESSAGE
from vk_provider.podmodel.spec import STATUS_LISTS
from vk_provider.podmodel.status import (
    UNLOCATED_MESSAGE,
    ContainerStatuses,
    Ending,
    PodEnd,
    SandboxFacts,
    build_pod_status,
    find_unlocated,
)

INSTANCE_CONDITION = "vk-provider.io/InstanceSelected"
"""Condition with the pod's instance, its price and the reason of the choice."""


def instance_condition(message: str, generation: int, now: str) -> Json:
    return _condition(INSTANCE_CONDITION, "True", "CheapestFit", message, generation, now)


def _condition(kind: str, status: str, reason: str, message: str, generation: int, now: str) -> Json:
    condition: Json = {"type": kind, "status": status, "lastTransitionTime": now}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    if generation:
        condition["observedGeneration"] = generation
    return condition


def build_unready_condition(pod: Json, message: str, now: str) -> Json:
    """The Ready condition of a pod whose agent is silent. Only Ready, as in the controller manager's MarkPodsNotReady,
    since the state of the containers is unknown."""
    return _condition(READY, "False", eventreasons.AGENT_UNREACHABLE, message, _generation(pod), now)


def _generation(pod: Json) -> int:
    return int(pod["metadata"].get("generation") or 0)


def build_pending_status(
    pod: Json, start_time: str, host_ips: tuple[str, ...], pod_ips: tuple[str, ...], now: str
) -> Json:
    """The pod waits for its instance: the first status of a kubelet, before there is a sandbox (generateAPIPodStatus).

    Of the API's status it takes only times of conditions: everything else may be another writer's.
    """
    status = _build_unstarted(pod, start_time, host_ips, now, Ending())
    if pod_ips and not pod["spec"].get("hostNetwork"):
        status["podIP"], status["podIPs"] = pod_ips[0], [{"ip": address} for address in pod_ips]
    return status


def build_expired_status(pod: Json, start_time: str, host_ips: tuple[str, ...], now: str) -> Json:
    """The deadline of the pod has passed before an agent was given it."""
    cause = PodEnd(DEADLINE_EXCEEDED, DEADLINE_MESSAGE)
    ending = Ending(terminating=True, containers_may_run=False, finished=True, cause=cause)
    return _build_unstarted(pod, start_time, host_ips, now, ending)


def build_terminated_status(pod: Json, ended: Json, start_time: str, host_ips: tuple[str, ...], now: str) -> Json:
    """A pod that was rejected is deleted (filterTerminalPodsToDelete), or past its deadline (getPodsToSync): a kubelet
    gives it to a pod worker then, whose one pass is SyncTerminatedPod: conditions and containers as of a pod that never
    began, and TerminatePod ends those.

    ended: phase, reason and message, which stay (find_end)
    """
    ending = Ending(terminating=True, containers_may_run=False, finished=True)
    return _build_unstarted(pod, start_time, host_ips, now, ending, ended)


def _build_unstarted(
    pod: Json, start_time: str, host_ips: tuple[str, ...], now: str, ending: Ending, ended: Json | None = None
) -> Json:
    reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    init, regular = (
        [_waiting(container, reason) for container in pod["spec"].get(field) or []]
        for field in ("initContainers", "containers")
    )
    known = {"conditions": (pod.get("status") or {}).get("conditions") or []}
    context = PodContext(host_ips=host_ips)
    return build_pod_status(
        {**pod, "status": known},
        ContainerStatuses(init, regular),
        SandboxFacts(),
        context,
        now,
        ending=ending,
        previous_status={**known, **(ended or {}), "startTime": start_time},
    )


def _waiting(container: Json, reason: str) -> Json:
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


def build_rejected_status(pod: Json, reason: str, message: str, start_time: str) -> Json:
    """Rejected at admission (pkg/kubelet/kubelet.go rejectPod): the containers never existed."""
    generation = _generation(pod)
    status: Json = {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": start_time,
    }
    if generation:
        status["observedGeneration"] = generation
    return status


def build_lost_status(
    pod: Json, last: Json | None, reason: str, message: str, now: str, *, disrupted: bool = True
) -> Json:
    """The pod's instance is gone: containers that may have run terminated with an unknown exit code.

    last: newest status known. disrupted: adds DisruptionTarget, so that a Job's podFailurePolicy can distinguish it
    from a failure of the program.
    """
    generation = _generation(pod)
    status: Json = dict(last or pod.get("status") or {})
    status.update(phase="Failed", reason=reason, message=message)
    kept = [each for each in status.get("conditions") or [] if each["type"] != DISRUPTION_TARGET]
    status["conditions"] = _settle(kept, generation, now)
    if disrupted:
        status["conditions"].append(
            _condition(DISRUPTION_TARGET, "True", "TerminationByKubelet", message, generation, now)
        )
    if generation:
        status["observedGeneration"] = generation
    _end_containers(pod, status, now)
    return status


def _end_containers(pod: Json, status: Json, now: str) -> None:
    """A regular container after an init container that never succeeded did not run: it stays waiting."""
    init, regular, ephemeral = (status.get(field) or [] for field in STATUS_LISTS)
    lost = {item["name"] for item in (*find_unlocated(pod, init, regular), *ephemeral)}
    for field in STATUS_LISTS:
        if status.get(field):
            status[field] = [_end_container(item, now) if item["name"] in lost else item for item in status[field]]


def _settle(conditions: list[Json], generation: int, now: str) -> list[Json]:
    """As mergePodStatus of the kubelet's status manager: only a condition that would be wrong is changed."""
    settled = settle_ready(conditions, "Failed")
    if settled is conditions:
        return conditions
    stamp: Json = {"observedGeneration": generation} if generation else {}
    return [
        new if new is old else {**new, **stamp, "lastTransitionTime": _transition_time(old, new, now)}
        for old, new in zip(conditions, settled, strict=True)
    ]


def _transition_time(old: Json, new: Json, now: str) -> str:
    return str(old.get("lastTransitionTime") or now) if old["status"] == new["status"] else now


def _end_container(item: Json, now: str) -> Json:
    state = item.get("state") or {}
    if "terminated" in state:
        return item
    terminated = {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": UNLOCATED_MESSAGE,
        "finishedAt": now,
    }
    if (state.get("running") or {}).get("startedAt"):
        terminated["startedAt"] = state["running"]["startedAt"]
        terminated["containerID"] = item.get("containerID", "")
    else:
        terminated["startedAt"] = None
        terminated["finishedAt"] = None
    return {**item, "state": {"terminated": terminated}, "ready": False, "started": False}


def build_unstarted_status(pod: Json, last: Json | None, start_time: str, host_ips: tuple[str, ...], now: str) -> Json:
    """Deleted before any container ran: a terminal phase, so that owners can count the pod as terminated."""
    of_api = pod.get("status") or {}
    known = last or (of_api if of_api.get("containerStatuses") else None)
    known = known or build_pending_status(pod, start_time, host_ips, (), now)
    base = build_lost_status(pod, known, "", "", now, disrupted=False)
    base.pop("reason"), base.pop("message")
    return base
