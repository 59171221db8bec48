"""The whole PodStatus, as a kubelet would patch it.

Source: kubelet generateAPIPodStatus, status manager (merge, final status); KEP-5067 observedGeneration.
Conditions that a kubelet does not own are left out: a strategic-merge patch keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vk_provider.jsontypes import Json
from vk_provider.podmodel import conditions as pod_conditions
from vk_provider.podmodel.addresses import build_addresses
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.phase import TERMINAL_PHASES, Phase, compute_phase
from vk_provider.podmodel.podresources import ResourceConfig, build_pod_level_resources
from vk_provider.podmodel.resources import qos_class
from vk_provider.podmodel.restart import all_containers_could_restart
from vk_provider.podmodel.spec import (
    init_containers,
    is_host_network,
    is_sidecar,
    metadata_of,
)

_OF_PHASE = frozenset({pod_conditions.INITIALIZED, pod_conditions.READY, pod_conditions.CONTAINERS_READY})
UNLOCATED_MESSAGE = "The container could not be located when the pod was terminated"


@dataclass(frozen=True)
class ContainerStatuses:
    """API ContainerStatus objects by kind, in any order."""

    init: list[Json] = field(default_factory=list)
    regular: list[Json] = field(default_factory=list)
    ephemeral: list[Json] = field(default_factory=list)


@dataclass(frozen=True)
class SandboxFacts:
    """The newest pod sandbox.

    exists, ready: as CRI says;  ips: its addresses (() for hostNetwork)
    started_containers: a regular container of this very sandbox was created (by CRI, also if it ended since)
    restarting_all: a RestartAllContainers rule matched and old containers are still there
    config: of the pod's cgroup, as read; None when it is not there
    """

    exists: bool = False
    ready: bool = False
    ips: tuple[str, ...] = ()
    started_containers: bool = False
    restarting_all: bool = False
    config: ResourceConfig | None = None


@dataclass(frozen=True)
class PodEnd:
    """Why the pod becomes Failed regardless of its containers: eviction, deadline, a stop by the provider.

    disruption: also sets the condition DisruptionTarget with reason TerminationByKubelet
    """

    reason: str
    message: str
    disruption: bool = False


@dataclass(frozen=True)
class Ending:
    """How far the end of the pod has come.

    terminating:        the pod is being stopped and all its containers have ended: they will not start again
    containers_may_run: a container may still run; then a terminal phase is not published yet (phase of before is kept).
                        None: as the statuses say
    finished:           nothing runs and nothing will: containers without an end get ContainerStatusUnknown, the phase
                        becomes terminal, and the conditions stay those of the phase before (TerminatePod)
    cause:              the pod fails for this reason
    initialized:        whether the pod was initialized when its end began; None: as the statuses say (find_unlocated)
    """

    terminating: bool = False
    containers_may_run: bool | None = None
    finished: bool = False
    cause: PodEnd | None = None
    initialized: bool | None = None


def build_pod_status(
    pod: Json,
    statuses: ContainerStatuses,
    sandbox: SandboxFacts,
    context: PodContext,
    now_rfc3339: str,
    *,
    ending: Ending = Ending(),
    resize_conditions: tuple[Json, ...] = (),
    previous_status: Json | None = None,
) -> Json:
    """Return the PodStatus.

    previous_status: the status built before (or the API's, by default): times and terminal phase carry over
    """
    finished, end = ending.finished, ending.cause
    previous = previous_status if previous_status is not None else pod.get("status") or {}
    init = _in_spec_order(pod, _copies(statuses.init))
    regular = sorted(_copies(statuses.regular), key=_name)
    every = [*init, *regular]
    is_terminal = ending.terminating or finished
    phase = compute_phase(pod, every, is_terminal, sandbox.started_containers)
    had_ended = finished and _was_terminated(previous, phase)
    phase, reason, message = _settle_phase(pod, phase, previous, end)
    status: Json = {"observedGeneration": metadata_of(pod).get("generation") or 0}
    built = _build_conditions(pod, every, sandbox, phase, previous, () if is_terminal else resize_conditions)
    if had_ended:
        built = _keep_conditions(built, previous)
    if finished:
        mark_unlocated(pod, init, regular, ending.initialized)
        phase = phase if phase in TERMINAL_PHASES else "Failed"
        built = pod_conditions.settle_ready(built, phase)
    containers_may_run = ending.containers_may_run
    if containers_may_run is None:
        containers_may_run = any("running" in (each.get("state") or {}) for each in (*every, *statuses.ephemeral))
    withheld = containers_may_run and not finished and phase in TERMINAL_PHASES
    ended = {previous.get("phase"), (pod.get("status") or {}).get("phase")} & TERMINAL_PHASES
    if withheld and not ended:
        phase = previous.get("phase") or "Pending"
        reason, message = previous.get("reason") or "", previous.get("message") or ""
    elif end is not None and end.disruption and phase in TERMINAL_PHASES:
        built.append(_disruption(end))
    built.extend(_kept_disruption(built, previous))
    status["phase"] = phase
    status["conditions"] = [
        _stamp(condition, pod, previous.get("conditions") or [], now_rfc3339) for condition in built
    ]
    if reason:
        status["reason"] = reason
    if message:
        status["message"] = message
    status.update(build_addresses(pod, sandbox.ips, context.host_ips, previous))
    status["startTime"] = previous.get("startTime") or (pod.get("status") or {}).get("startTime") or now_rfc3339
    status["qosClass"] = (pod.get("status") or {}).get("qosClass") or qos_class(pod)
    if init:
        status["initContainerStatuses"] = init
    status["containerStatuses"] = regular
    if statuses.ephemeral:
        status["ephemeralContainerStatuses"] = sorted(statuses.ephemeral, key=_name)
    status.update(build_pod_level_resources(pod, previous, sandbox.config, ended=phase in TERMINAL_PHASES))
    return status


def build_rejected_status(pod: Json, reason: str, message: str, now_rfc3339: str) -> Json:
    """Return the status of a pod that failed admission: no container was ever tried."""
    return {
        "observedGeneration": metadata_of(pod).get("generation") or 0,
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": (pod.get("status") or {}).get("startTime") or now_rfc3339,
        "qosClass": (pod.get("status") or {}).get("qosClass") or qos_class(pod),
    }


def mark_unlocated(pod: Json, init: list[Json], regular: list[Json], initialized: bool | None = None) -> None:
    """Give every started container without an end the state ContainerStatusUnknown, in place."""
    for status in find_unlocated(pod, init, regular, initialized):
        ended = {"reason": "ContainerStatusUnknown", "message": UNLOCATED_MESSAGE, "exitCode": 137}
        status["state"] = {"terminated": {"startedAt": None, "finishedAt": None, **ended}}
        status["ready"], status["started"] = False, False


def find_unlocated(pod: Json, init: list[Json], regular: list[Json], initialized: bool | None = None) -> list[Json]:
    """Statuses without an end of containers that may have run (TerminatePod of the kubelet's status manager): init
    containers up to the last that has started, the regular ones once the pod was initialized.

    Whether it was is what the API said when the end began: a last sidecar that ran until then has ended in the newest
    status, and an init container that has ended well since did so because it was stopped.
    """
    of_api = pod.get("status") or {}
    if initialized is None and not metadata_of(pod).get("deletionTimestamp"):
        initialized = has_initialized(pod, init, regular)
    before = [of_api.get(key) or [] for key in ("initContainerStatuses", "containerStatuses")]
    lost = list(regular) if initialized or has_initialized(pod, *before) else []
    last = max((index for index, status in enumerate(init) if _has_started(status)), default=0)
    return [each for each in (*lost, *init[: last + 1]) if not (each.get("state") or {}).get("terminated")]


def _has_started(status: Json) -> bool:
    return "waiting" not in (status.get("state") or {}) or bool((status.get("lastState") or {}).get("terminated"))


def has_initialized(pod: Json, init: list[Json], regular: list[Json]) -> bool:
    """Whether these statuses show that all init containers were through (hasPodInitialized)."""
    if not init_containers(pod) or any(_has_started(status) for status in regular):
        return True
    if not init:
        return False
    last, spec = init[-1], init_containers(pod)[-1]
    if is_sidecar(spec):
        return "running" in (last.get("state") or {}) and bool(last.get("started"))
    ends = [(last.get(key) or {}).get("terminated") for key in ("state", "lastState")]
    return any(ended is not None and not ended.get("exitCode") for ended in ends)


def _copies(statuses: list[Json]) -> list[Json]:
    """Only fields of the statuses themselves are changed here, nothing within these."""
    return [dict(status) for status in statuses]


def _name(status: Json) -> str:
    return str(status["name"])


def _in_spec_order(pod: Json, statuses: list[Json]) -> list[Json]:
    order = {container["name"]: index for index, container in enumerate(init_containers(pod))}
    return sorted(statuses, key=lambda status: order.get(status["name"], len(order)))


def _settle_phase(pod: Json, phase: Phase, previous: Json, end: PodEnd | None) -> tuple[Phase, str, str]:
    """Return phase, reason and message; terminal phases never leave, and reason and message stay with their phase."""
    of_api = pod.get("status") or {}
    for known in (previous.get("phase"), of_api.get("phase")):
        if known in TERMINAL_PHASES and phase not in TERMINAL_PHASES:
            phase = known
    if of_api.get("phase") in TERMINAL_PHASES:
        phase = of_api["phase"]
    reason = message = ""
    if phase == previous.get("phase"):
        reason = previous.get("reason") or of_api.get("reason") or ""
        message = previous.get("message") or of_api.get("message") or ""
    elif phase == of_api.get("phase") and phase in TERMINAL_PHASES:  # set by another writer, with its reason
        reason, message = of_api.get("reason") or "", of_api.get("message") or ""
    if end is not None and of_api.get("phase") not in TERMINAL_PHASES:
        return "Failed", end.reason, end.message
    return phase, reason, message


def _build_conditions(
    pod: Json, statuses: list[Json], sandbox: SandboxFacts, phase: Phase, previous: Json, resize: tuple[Json, ...]
) -> list[Json]:
    of_api = (pod.get("status") or {}).get("conditions") or []
    containers_ready = pod_conditions.build_containers_ready(pod, statuses, phase)
    built = [
        *resize,
        pod_conditions.build_ready_to_start(sandbox_problem(pod, sandbox)),
        pod_conditions.build_initialized(pod, statuses, phase, previous.get("conditions") or []),
        pod_conditions.build_ready(pod, containers_ready, of_api),
        containers_ready,
        {"type": pod_conditions.POD_SCHEDULED, "status": "True"},
    ]
    if all_containers_could_restart(pod):
        built.append(pod_conditions.build_all_restarting(phase, sandbox.restarting_all))
    return built


def _was_terminated(previous: Json, phase: Phase) -> bool:
    """Whether TerminatePod made `previous`: its phase is not that of the containers, or it has given them an end."""
    if previous.get("phase") not in TERMINAL_PHASES:
        return False
    statuses = (*(previous.get("initContainerStatuses") or []), *(previous.get("containerStatuses") or []))
    ends = [(each.get("state") or {}).get("terminated") or {} for each in statuses]
    return phase not in TERMINAL_PHASES or any(end.get("message") == UNLOCATED_MESSAGE for end in ends)


def _keep_conditions(built: list[Json], previous: Json) -> list[Json]:
    """Those of the phase before TerminatePod made it Failed: they are not computed again."""
    known = {condition["type"]: condition for condition in previous.get("conditions") or []}
    return [known.get(item["type"], item) if item["type"] in _OF_PHASE else item for item in built]


def sandbox_problem(pod: Json, sandbox: SandboxFacts) -> str:
    """Return why no container can be started in the sandbox, "" when it is ready."""
    if not sandbox.exists:
        return "no pod sandbox exists"
    if not sandbox.ready:
        return "pod sandbox is not ready"
    if not sandbox.ips and not is_host_network(pod):
        return "pod sandbox has no IP address"
    return ""


def _disruption(end: PodEnd) -> Json:
    kind = pod_conditions.DISRUPTION_TARGET
    return {"type": kind, "status": "True", "reason": "TerminationByKubelet", "message": end.message}


def _kept_disruption(built: list[Json], previous: Json) -> list[Json]:
    known = pod_conditions.find_condition(previous.get("conditions") or [], pod_conditions.DISRUPTION_TARGET)
    if known is None or known.get("reason") != "TerminationByKubelet":
        return []
    return [] if pod_conditions.find_condition(built, pod_conditions.DISRUPTION_TARGET) else [dict(known)]


def _stamp(condition: Json, pod: Json, previous: list[Json], now: str) -> Json:
    """Add observedGeneration and lastTransitionTime; the time only moves when `status` changes.

    AllContainersRestarting has no observedGeneration (pkg/kubelet/status/generate.go)."""
    known = pod_conditions.find_condition(previous, condition["type"]) or {}
    kept = known.get("lastTransitionTime") if known.get("status") == condition["status"] else None
    stamped = {"lastProbeTime": None, **condition}
    stamped["lastTransitionTime"] = condition.get("lastTransitionTime") or kept or now
    if condition["type"] in pod_conditions.KUBELET_CONDITIONS - {pod_conditions.ALL_RESTARTING}:
        stamped.setdefault("observedGeneration", metadata_of(pod).get("generation") or 0)
    return stamped
