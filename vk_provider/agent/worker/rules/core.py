"""What should happen to the pod now: the kubelet's computePodActions, as a pure function.

Source of the rules: pkg/kubelet/kuberuntime/kuberuntime_manager.go and kuberuntime_container.go (v1.37).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.spec import (
    container_hash,
    ephemeral_containers,
    init_containers,
    is_deleted,
    is_host_network,
    is_sidecar,
    matching_rule_action,
    pod_restart_policy,
    regular_containers,
    restarts_after_exit,
    spec_of,
)
from vk_provider.jsontypes import Json

KillReason = Literal["", "liveness", "startup", "unknown"]
ProbeResult = Literal["success", "failure", "unknown"]


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop one container; `reason` picks the grace period, `message` is the Killing event."""

    container_id: str
    name: str
    message: str
    reason: KillReason = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Remove one container (RestartAllContainers); `running` ones are killed without grace first."""

    container_id: str
    name: str
    running: bool


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Newest results by container ID; a missing ID means the probe did not run yet."""

    liveness: Mapping[str, ProbeResult] = field(default_factory=dict)
    startup: Mapping[str, ProbeResult] = field(default_factory=dict)
    readiness: Mapping[str, ProbeResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do, in this order: kill_pod | kill, reset; create_sandbox; start ephemeral, init, regular by index.

    initialized: the init containers in the sandbox are done, the last sidecar has started
    """

    kill_pod: bool = False
    initialized: bool = False
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    kill: tuple[Kill, ...] = ()
    reset: tuple[Reset, ...] = ()
    start_ephemeral: tuple[int, ...] = ()
    start_init: tuple[int, ...] = ()
    start_regular: tuple[int, ...] = ()

    @property
    def starts_something(self) -> bool:
        return bool(self.create_sandbox or self.start_ephemeral or self.start_init or self.start_regular)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a pass decides by; see compute_actions."""

    pod: Json
    observed: Observation
    probes: ProbeResults
    resize_restarts: frozenset[str]


@dataclass(slots=True)
class _Plan:
    """Of `start_init`, each index counts once, in any order."""

    kill_pod: bool = False
    kill: dict[str, Kill] = field(default_factory=dict)
    start_init: list[int] = field(default_factory=list)
    start_regular: list[int] = field(default_factory=list)

    def restart_init(self, index: int, record: ObservedContainer, message: str, reason: KillReason = "") -> None:
        """Kill an init container, then start it again."""
        self.kill[record.id] = Kill(record.id, record.name, message, reason)
        self.start_init.append(index)

    def end_pod(self) -> None:
        self.kill_pod = True
        self.start_init = []


def sandbox_changed(pod: Json, observed: Observation) -> tuple[bool, int, str, str]:
    """Return (a new sandbox is needed, its attempt, ID of the newest sandbox, why the newest is not ready)."""
    if not observed.sandboxes:
        return True, 0, "", "no pod sandbox exists"
    newest = observed.sandboxes[0]
    if sum(1 for sandbox in observed.sandboxes if sandbox.ready) > 1:
        return True, newest.attempt + 1, newest.id, "multiple pod sandboxes are ready"
    if not newest.ready:
        return True, newest.attempt + 1, newest.id, "pod sandbox is not ready"
    if newest.host_network != is_host_network(pod):
        return True, newest.attempt + 1, "", "pod sandbox network namespace mode has changed"
    if not is_host_network(pod) and newest.has_network and not newest.ip:
        return True, newest.attempt + 1, newest.id, "pod sandbox has no IP address"
    return False, newest.attempt, newest.id, ""


def should_restart_container(pod: Json, container: Json, observed: Observation) -> bool:
    """Would the next pass start this container again? Never once the pod is being deleted."""
    if is_deleted(pod):
        return False
    newest = observed.newest(container["name"])
    if newest is None:
        return True
    if newest.state is State.RUNNING:
        return False
    if newest.state in (State.UNKNOWN, State.CREATED):
        return True
    return restarts_after_exit(pod, container, newest.exit_code)


def should_restart_all(pod: Json, observed: Observation) -> bool:
    """Did a container exit whose rule asks for RestartAllContainers (KEP-5532)?"""
    for container in [*init_containers(pod), *regular_containers(pod)]:
        newest = observed.newest(container["name"])
        if newest is not None and _asks_restart_all(container, newest):
            return True
    return False


def all_containers_removed(pod: Json, observed: Observation) -> bool:
    names = [container["name"] for container in [*init_containers(pod), *regular_containers(pod)]]
    return all(observed.newest(name) is None for name in names)


def regular_container_created(pod: Json, observed: Observation) -> bool:
    """Whether there is a regular container in a known state, in any sandbox."""
    records = (observed.newest(container["name"]) for container in regular_containers(pod))
    return any(record is not None and record.state is not State.UNKNOWN for record in records)


def regular_container_started(pod: Json, observed: Observation) -> bool:
    """Whether there is a regular container in the active sandbox, in any state: then initialisation is over."""
    return any(observed.active(container["name"]) is not None for container in regular_containers(pod))


def compute_actions(
    pod: Json,
    observed: Observation,
    probes: ProbeResults,
    *,
    restart_all: bool = False,
    resize_restarts: frozenset[str] = frozenset(),
) -> Actions:
    """Decide one pass.

    restart_all:     RestartAllContainers is under way: remove every container
    resize_restarts: names of running containers whose resize policy asks for a restart
    """
    new_sandbox, attempt, sandbox_id, _ = sandbox_changed(pod, observed)
    if restart_all:
        return Actions(sandbox_id=sandbox_id, attempt=attempt, reset=_plan_reset(pod, observed))
    if new_sandbox:
        return _plan_new_sandbox(pod, observed, attempt, sandbox_id)
    plan, facts = _Plan(), _Facts(pod, observed, probes, resize_restarts)
    ephemeral = tuple(i for i, c in enumerate(ephemeral_containers(pod)) if observed.newest(c["name"]) is None)
    initialized = _plan_init(facts, plan) and not plan.kill_pod
    if initialized:
        _plan_regular(facts, plan)
    return Actions(
        kill_pod=plan.kill_pod,
        initialized=initialized,
        sandbox_id=sandbox_id,
        attempt=attempt,
        kill=tuple(plan.kill.values()),
        start_ephemeral=ephemeral,
        start_init=tuple(sorted(set(plan.start_init))),
        start_regular=tuple(plan.start_regular),
    )


def _asks_restart_all(container: Json, record: ObservedContainer) -> bool:
    exited = record.state is State.EXITED
    return exited and matching_rule_action(container, record.exit_code) == "RestartAllContainers"


def _plan_reset(pod: Json, observed: Observation) -> tuple[Reset, ...]:
    """Remove all; the container that caused it is removed last, so that a crash in between is recognised."""
    sources: list[Reset] = []
    targets: list[Reset] = []
    for container in [*regular_containers(pod), *init_containers(pod)]:
        for record in observed.history(container["name"]):
            reset = Reset(record.id, record.name, running=record.state is not State.EXITED)
            (sources if _asks_restart_all(container, record) else targets).append(reset)
    return tuple(targets + sources)


def _plan_new_sandbox(pod: Json, observed: Observation, attempt: int, sandbox_id: str) -> Actions:
    kill_only = Actions(kill_pod=True, sandbox_id=sandbox_id, attempt=attempt)
    if pod_restart_policy(pod) == "Never" and attempt != 0 and observed.containers:
        return kill_only
    starts = [
        index
        for index, container in enumerate(regular_containers(pod))
        if not (_runs_once(pod, container) and _succeeded(observed, container["name"]))
    ]
    if not starts and regular_container_created(pod, observed):
        return kill_only
    first_init = (0,) if init_containers(pod) else ()
    return Actions(
        kill_pod=True,
        create_sandbox=True,
        sandbox_id=sandbox_id,
        attempt=attempt,
        start_init=first_init,
        start_regular=() if first_init else tuple(starts),
    )


def _runs_once(pod: Json, container: Json) -> bool:
    return (container.get("restartPolicy") or pod_restart_policy(pod)) == "OnFailure"


def _succeeded(observed: Observation, name: str) -> bool:
    newest = observed.newest(name)
    return newest is not None and newest.state is State.EXITED and newest.exit_code == 0


def _plan_init(facts: _Facts, plan: _Plan) -> bool:
    """Plan init containers and sidecars; return whether the pod is initialised.

    Walks backwards from the last one: finished init containers may be gone from the runtime, so the last one that is
    known shows how far initialisation came.
    """
    containers = init_containers(facts.pod)
    if not containers:
        return True
    initialized = regular_container_started(facts.pod, facts.observed)
    later_known = initialized
    for index in range(len(containers) - 1, -1, -1):
        container = containers[index]
        record = facts.observed.active(container["name"])
        sidecar = is_sidecar(container)
        if record is None:
            if later_known and sidecar:
                plan.start_init.append(index)
            continue
        if later_known and not sidecar:
            continue
        is_last = index == len(containers) - 1
        done = _plan_known_init(facts, index, record, plan)
        if plan.kill_pod:
            return False
        if done and is_last:
            initialized = True
        elif done and not later_known:
            plan.start_init.append(index + 1)
        later_known = True
    if not later_known:
        plan.start_init.append(0)
    return initialized


def _plan_known_init(facts: _Facts, index: int, record: ObservedContainer, plan: _Plan) -> bool:
    """Plan one init container that exists; return whether it lets the next one start."""
    pod, container = facts.pod, init_containers(facts.pod)[index]
    if record.state is State.CREATED:
        plan.start_init.append(index)
        return False
    if record.state is State.RUNNING:
        return is_sidecar(container) and _plan_running_sidecar(facts, index, record, plan)
    if record.state is State.EXITED:
        if is_sidecar(container):
            plan.start_init.append(index)
            return False
        if record.exit_code == 0:
            return True
        if restarts_after_exit(pod, container, record.exit_code, is_init=True) and not is_deleted(pod):
            plan.start_init.append(index)
        else:
            plan.end_pod()
        return False
    restartable = (container.get("restartPolicy") or pod_restart_policy(pod)) != "Never"
    if not is_sidecar(container) and not restartable:
        plan.end_pod()
        return False
    message = f'Init container is in "{record.state}" state, try killing it before restart'
    plan.restart_init(index, record, message, "unknown")
    return False


def _plan_running_sidecar(facts: _Facts, index: int, record: ObservedContainer, plan: _Plan) -> bool:
    container, probes, name = init_containers(facts.pod)[index], facts.probes, record.name
    if container.get("startupProbe"):
        startup = probes.startup.get(record.id)
        if startup == "failure":
            plan.restart_init(index, record, f"Init container {name} failed startup probe", "startup")
        if startup != "success":
            return False
    if record.hash != container_hash(container):
        plan.restart_init(index, record, f"Init container {name} definition changed")
    elif container.get("livenessProbe") and probes.liveness.get(record.id) == "failure":
        plan.restart_init(index, record, f"Init container {name} failed liveness probe", "liveness")
    elif name in facts.resize_restarts:
        plan.restart_init(index, record, f"Container {name} resize requires restart")
    return True


def _plan_regular(facts: _Facts, plan: _Plan) -> None:
    kept = 0
    for index, container in enumerate(regular_containers(facts.pod)):
        record = facts.observed.newest(container["name"])
        if record is None or record.state is not State.RUNNING:
            if should_restart_container(facts.pod, container, facts.observed):
                plan.start_regular.append(index)
                if record is not None and record.state is State.UNKNOWN:
                    message = f'Container is in "{record.state}" state, try killing it before restart'
                    plan.kill[record.id] = Kill(record.id, record.name, message, "unknown")
            continue
        verdict = _verdict(facts, container, record)
        if verdict is None:
            kept += 1
            continue
        message, reason, restart = verdict
        if restart:
            plan.start_regular.append(index)
        plan.kill[record.id] = Kill(record.id, record.name, message, reason)
    if not kept and not plan.start_regular:
        plan.end_pod()


def _verdict(facts: _Facts, container: Json, record: ObservedContainer) -> tuple[str, KillReason, bool] | None:
    """Why a running container must be killed: (message, reason, restart it); None to keep it."""
    name, probes = container["name"], facts.probes
    restart = (container.get("restartPolicy") or pod_restart_policy(facts.pod)) != "Never"
    suffix = ", will be restarted" if restart else ""
    if record.hash != container_hash(container):
        return f"Container {name} definition changed, will be restarted", "", True
    if container.get("livenessProbe") and probes.liveness.get(record.id) == "failure":
        return f"Container {name} failed liveness probe{suffix}", "liveness", restart
    if container.get("startupProbe") and probes.startup.get(record.id) == "failure":
        return f"Container {name} failed startup probe{suffix}", "startup", restart
    if name in facts.resize_restarts:
        return f"Container {name} resize requires restart", "", True
    return None


def remaining_deadline_s(pod: Json, started_at_s: float, now_s: float) -> float | None:
    """Seconds until activeDeadlineSeconds is over (<= 0: it is over); None without a deadline."""
    deadline = spec_of(pod).get("activeDeadlineSeconds")
    if deadline is None or not started_at_s:
        return None
    return started_at_s + float(deadline) - now_s
