"""What should happen to the pod now: the kubelet's computePodActions, as a pure function.

Source of the rules: pkg/kubelet/kuberuntime/kuberuntime_manager.go and kuberuntime_container.go (v1.37).
"""

from __future__ import annotations

from vk_provider.agent.worker.rules.actions import Actions, Kill, KillReason, Plan, Reset
from vk_provider.agent.worker.rules.facts import Facts, ProbeResults
from vk_provider.agent.worker.rules.initcontainers import plan_init
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.podstate import (
    asks_restart_all,
    regular_container_created,
    sandbox_changed,
    should_restart_container,
)
from vk_provider.agent.worker.rules.spec import (
    container_hash,
    ephemeral_containers,
    init_containers,
    pod_restart_policy,
    regular_containers,
)
from vk_provider.jsontypes import Json


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
    plan, facts = Plan(), Facts(pod, observed, probes, resize_restarts)
    ephemeral = tuple(i for i, c in enumerate(ephemeral_containers(pod)) if observed.newest(c["name"]) is None)
    initialized = plan_init(facts, plan) and not plan.kill_pod
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


def _plan_reset(pod: Json, observed: Observation) -> tuple[Reset, ...]:
    """Remove all; the container that caused it is removed last, so that a crash in between is recognised."""
    sources: list[Reset] = []
    targets: list[Reset] = []
    for container in [*regular_containers(pod), *init_containers(pod)]:
        for record in observed.history(container["name"]):
            reset = Reset(record.id, record.name, running=record.state is not State.EXITED)
            (sources if asks_restart_all(container, record) else targets).append(reset)
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


def _plan_regular(facts: Facts, plan: Plan) -> None:
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


def _verdict(facts: Facts, container: Json, record: ObservedContainer) -> tuple[str, KillReason, bool] | None:
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
