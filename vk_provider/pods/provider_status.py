"""PodStatuses that the provider writes because there is no agent to do it. Pure; `now` is RFC 3339."""

from __future__ import annotations

from vk_provider import eventreasons
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import DISRUPTION_TARGET, READY
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
from vk_provider.pods.unlocated import build_unlocated_status, settle_conditions, waiting_status

INSTANCE_CONDITION = "vk-provider.io/InstanceSelected"
"""Condition with the pod's instance, its price and the reason of the choice."""
_EXPIRED = PodEnd(DEADLINE_EXCEEDED, DEADLINE_MESSAGE)


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
    ending = Ending(terminating=True, containers_may_run=False, finished=True, cause=_EXPIRED)
    return _build_unstarted(pod, start_time, host_ips, now, ending)


def build_terminated_status(pod: Json, known: Json, start_time: str, host_ips: tuple[str, ...], now: str) -> Json:
    """Of a pod that has a terminal phase before a kubelet gives it to a pod worker: it was rejected and is deleted
    (filterTerminalPodsToDelete) or past its deadline (getPodsToSync), or the kubelet sees it so first (UpdatePod). The
    worker's one pass is SyncTerminatedPod.

    known: its newest status, whose phase, reason and message stay
    """
    return build_unlocated_status(pod, known, start_time, host_ips, now)


def _build_unstarted(pod: Json, start_time: str, host_ips: tuple[str, ...], now: str, ending: Ending) -> Json:
    reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    init, regular = (
        [waiting_status(container, reason) for container in pod["spec"].get(field) or []]
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
        previous_status={**known, "startTime": start_time},
    )


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


def build_lost_status(pod: Json, last: Json | None, reason: str, message: str, now: str) -> Json:
    """The pod's instance is gone: containers that may have run terminated with an unknown exit code.

    last: newest status known. DisruptionTarget is there so that a Job's podFailurePolicy can distinguish it from a
    failure of the program.
    """
    generation = _generation(pod)
    status: Json = dict(last or pod.get("status") or {})
    status.update(phase="Failed", reason=reason, message=message)
    kept = [each for each in status.get("conditions") or [] if each["type"] != DISRUPTION_TARGET]
    status["conditions"] = settle_conditions(kept, "Failed", generation, now)
    status["conditions"].append(_condition(DISRUPTION_TARGET, "True", "TerminationByKubelet", message, generation, now))
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


def build_unstarted_status(
    pod: Json, last: Json | None, start_time: str, host_ips: tuple[str, ...], now: str, *, expired: bool = False
) -> Json:
    """Deleted, and no instance has it: SyncTerminatingPod and SyncTerminatedPod of a kubelet whose runtime knows
    nothing of it. Succeeded only if every container is known to have succeeded.

    last: the newest status of this process; None: the API's, as an earlier one has left it. expired: its deadline has
    passed, which is why it fails then
    """
    cause = _EXPIRED if expired else None
    return build_unlocated_status(pod, last or pod.get("status") or {}, start_time, host_ips, now, cause)
