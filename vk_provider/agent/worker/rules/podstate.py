"""How it stands with the pod, by its spec and what was observed: what passes and statuses ask. Pure.

Source of the rules: pkg/kubelet/kuberuntime/kuberuntime_manager.go and kuberuntime_container.go (v1.37).
"""

from __future__ import annotations

from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.spec import (
    init_containers,
    is_deleted,
    is_host_network,
    matching_rule_action,
    regular_containers,
    restarts_after_exit,
)
from vk_provider.jsontypes import Json
from vk_provider.podmodel.deadline import deadline_s


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
        if newest is not None and asks_restart_all(container, newest):
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


def asks_restart_all(container: Json, record: ObservedContainer) -> bool:
    """Has this one exited, and does its rule ask for it?"""
    exited = record.state is State.EXITED
    return exited and matching_rule_action(container, record.exit_code) == "RestartAllContainers"


def remaining_deadline_s(pod: Json, started_at_s: float, now_s: float) -> float | None:
    """Seconds until activeDeadlineSeconds is over (<= 0: it is over); None without a deadline."""
    deadline = deadline_s(pod)
    if deadline is None or not started_at_s:
        return None
    return started_at_s + deadline - now_s
