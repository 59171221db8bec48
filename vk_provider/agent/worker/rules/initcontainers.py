"""Init containers and sidecars: which of them a pass starts or kills, and whether the pod is initialised. Pure.

Source of the rules: pkg/kubelet/kuberuntime/kuberuntime_manager.go and kuberuntime_container.go (v1.37).
"""

from __future__ import annotations

from vk_provider.agent.worker.rules.actions import Plan
from vk_provider.agent.worker.rules.facts import Facts
from vk_provider.agent.worker.rules.observed import ObservedContainer, State
from vk_provider.agent.worker.rules.podstate import regular_container_started
from vk_provider.agent.worker.rules.spec import (
    container_hash,
    init_containers,
    is_deleted,
    is_sidecar,
    pod_restart_policy,
    restarts_after_exit,
)


def plan_init(facts: Facts, plan: Plan) -> bool:
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


def _plan_known_init(facts: Facts, index: int, record: ObservedContainer, plan: Plan) -> bool:
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


def _plan_running_sidecar(facts: Facts, index: int, record: ObservedContainer, plan: Plan) -> bool:
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
