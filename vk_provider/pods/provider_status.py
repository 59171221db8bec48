"""PodStatuses that the provider writes because there is no agent to do it. Pure; `now` is RFC 3339."""

from __future__ import annotations

from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import build_pod_level_resources
from vk_provider.podmodel.status import UNLOCATED_MESSAGE, find_unlocated

INSTANCE_CONDITION = "vk-provider.io/InstanceSelected"
"""Condition with the pod's instance, its price and the reason of the choice."""

AGENT_UNREACHABLE = "AgentUnreachable"
"""Reason of Ready=False, and of the event, while an agent is silent whose instance may still run."""
AGENT_REACHABLE = "AgentReachable"
AGENT_PROTOCOL_ERROR = "AgentProtocolError"
"""Reason of the event about a session that was closed because of a violation."""

_STATUS_FIELDS = {
    "initContainers": "initContainerStatuses",
    "containers": "containerStatuses",
    "ephemeralContainers": "ephemeralContainerStatuses",
}


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
    return _condition("Ready", "False", AGENT_UNREACHABLE, message, _generation(pod), now)


def _generation(pod: Json) -> int:
    return int(pod["metadata"].get("generation") or 0)


def build_pending_status(pod: Json, start_time: str, host_ip: str, pod_ip: str, now: str) -> Json:
    """The pod waits for its instance: all containers are waiting, as in a kubelet before the sandbox exists."""
    generation = _generation(pod)
    reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    names = [container["name"] for container in pod["spec"]["containers"]]
    init_names = [container["name"] for container in pod["spec"].get("initContainers") or []]
    unready = f"containers with unready status: [{' '.join(names)}]"
    conditions = [
        _condition("PodReadyToStartContainers", "False", "", "", generation, now),
        _condition(
            "Initialized",
            "False",
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(init_names)}]",
            generation,
            now,
        )
        if init_names
        else _condition("Initialized", "True", "", "", generation, now),
        _condition("Ready", "False", "ContainersNotReady", unready, generation, now),
        _condition("ContainersReady", "False", "ContainersNotReady", unready, generation, now),
        _condition("PodScheduled", "True", "", "", generation, _scheduled_at(pod) or now),
    ]
    status: Json = {"phase": "Pending", "startTime": start_time, "conditions": conditions}
    if generation:
        status["observedGeneration"] = generation
    if host_ip:
        status["hostIP"], status["hostIPs"] = host_ip, [{"ip": host_ip}]
    host_network = bool(pod["spec"].get("hostNetwork"))
    address = host_ip if host_network else pod_ip
    if address:
        status["podIP"], status["podIPs"] = address, [{"ip": address}]
    for spec_field in ("initContainers", "containers"):
        statuses = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": False,
                "started": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": reason}},
            }
            for container in pod["spec"].get(spec_field) or []
        ]
        if statuses:
            status[_STATUS_FIELDS[spec_field]] = statuses
    status.update(build_pod_level_resources(pod, {}))
    return status


def _scheduled_at(pod: Json) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled":
            return str(condition.get("lastTransitionTime") or "")
    return ""


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
    status["conditions"] = [
        _settle(condition, generation, now)
        for condition in status.get("conditions") or []
        if condition["type"] != "DisruptionTarget"
    ]
    if disrupted:
        status["conditions"].append(
            _condition("DisruptionTarget", "True", "TerminationByKubelet", message, generation, now)
        )
    if generation:
        status["observedGeneration"] = generation
    _end_containers(pod, status, now)
    return status


def _end_containers(pod: Json, status: Json, now: str) -> None:
    """A regular container after an init container that never succeeded did not run: it stays waiting."""
    init, regular, ephemeral = (status.get(field) or [] for field in _STATUS_FIELDS.values())
    lost = {item["name"] for item in (*find_unlocated(pod, init, regular), *ephemeral)}
    for field in _STATUS_FIELDS.values():
        if status.get(field):
            status[field] = [_end_container(item, now) if item["name"] in lost else item for item in status[field]]


def _settle(condition: Json, generation: int, now: str) -> Json:
    if condition["type"] not in ("Ready", "ContainersReady") or condition.get("status") == "False":
        return condition
    return _condition(condition["type"], "False", "PodFailed", "", generation, now)


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


def build_unstarted_status(pod: Json, last: Json | None, start_time: str, now: str) -> Json:
    """Deleted before any container ran: a terminal phase, so that owners can count the pod as terminated."""
    of_api = pod.get("status") or {}
    known = last or (of_api if of_api.get("containerStatuses") else None)
    known = known or build_pending_status(pod, start_time, "", "", now)
    base = build_lost_status(pod, known, "", "", now, disrupted=False)
    base.pop("reason"), base.pop("message")
    return base
