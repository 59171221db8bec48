"""Pods of chance, and what a kubelet 1.37.2 decides about them: kubelet_1_37.jsonl.

Each line is a case with what the kubelet's own functions returned ("want"): computePodActions, the container statuses
of generateAPIPodStatus, getPhase, the conditions, QoS and OOM scores, PodRequests and PodLimits, GetPodDNS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vk_provider.agent.worker.rules.core import compute_actions
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, ObservedSandbox, State, order
from vk_provider.agent.worker.rules.podstate import regular_container_started
from vk_provider.agent.worker.rules.spec import container_hash, find_ref
from vk_provider.agent.worker.status.container import StatusInputs, compute_statuses
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import build_containers_ready, build_initialized, build_ready
from vk_provider.podmodel.dns import build_dns_config
from vk_provider.podmodel.phase import compute_phase
from vk_provider.podmodel.resources import effective_resources, oom_score_adj, qos_class
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers
from vk_provider.wire.session import NodeFacts

SECOND = 1_000_000_000
CASES = [json.loads(line) for line in Path(__file__).with_name("kubelet_1_37.jsonl").read_text().splitlines()]


def observe(case: Json) -> Observation:
    sandboxes = [
        ObservedSandbox(s["ID"], s["Attempt"], s["Ready"], s["Attempt"], s["IP"], host_network=s["HostNetwork"])
        for s in case["Sandboxes"]
    ]
    return order(sandboxes, (observe_container(case["Pod"], c) for c in case["Containers"]))


def observe_container(pod: Json, seen: Json) -> ObservedContainer:
    ref = find_ref(pod, seen["Name"])
    assert ref is not None
    return ObservedContainer(
        id=seen["ID"],
        name=seen["Name"],
        sandbox_id=seen["Sandbox"],
        state=State(seen["State"]),
        created_at_ns=seen["Created"] * SECOND,
        started_at_ns=seen["Started"] * SECOND,
        finished_at_ns=seen["Finished"] * SECOND,
        exit_code=seen["Exit"],
        reason=seen["Reason"],
        message=seen["Message"],
        image="docker.io/library/busybox:1",
        image_ref="docker.io/library/busybox@sha256:1",
        hash=container_hash(ref.spec) if seen["Same"] else "another",
        restart_count=seen["Restarts"],
    )


def check_actions(case: Json, want: Json) -> None:
    probes = ProbeResults(case["Liveness"], case["Startup"])
    actions = compute_actions(case["Pod"], observe(case), probes, restart_all=case["RestartAll"])
    assert (actions.sandbox_id, actions.attempt) == (want["SandboxID"], want["Attempt"])
    assert [[r.container_id, r.name, r.running] for r in actions.reset] == (want["Reset"] or [])
    assert list(actions.start_init) == sorted(set(want["Init"] or []))
    assert list(actions.start_regular) == (want["Regular"] or [])
    assert list(actions.start_ephemeral) == (want["Ephemeral"] or [])
    if case["RestartAll"]:
        return
    assert (actions.kill_pod, actions.create_sandbox) == (want["KillPod"], want["CreateSandbox"])
    if not actions.kill_pod:  # else everything is stopped anyway
        reasons = {"startup": "StartupProbe", "liveness": "LivenessProbe", "unknown": "Unknown", "": ""}
        killed = {k.container_id: [k.name, k.message, reasons[k.reason]] for k in actions.kill}
        assert killed == want["Kill"]


def check_status(case: Json, want: Json) -> None:
    pod, observed = case["Pod"], observe(case)
    failures = {name: (reason, message) for name, (reason, message) in case["Failures"].items()}
    inputs = StatusInputs(case["Old"], ProbeResults(), failures, restarting_all=want["Restarting"])
    lists = compute_statuses(pod, observed, inputs)
    shown = {"Init": lists.init, "Regular": lists.regular, "Ephemeral": lists.ephemeral}
    for name, statuses in shown.items():
        assert [reduce_status(s) for s in statuses] == [reduce_status(s) for s in want[name] or []]
    if not any(is_sidecar(container) for container in init_containers(pod)):  # those need what the probes say
        started = regular_container_started(pod, observed)
        assert compute_phase(pod, [*lists.init, *lists.regular], case["Terminal"], started) == want["Phase"]


def reduce_status(status: Json) -> Json:
    kept: Json = {name: status.get(name) or "" for name in ("name", "image", "imageID", "containerID")}
    kept["restartCount"] = status["restartCount"]
    for key in ("state", "lastState"):
        kept[key] = {kind: reduce_state(kind, state or {}) for kind, state in (status.get(key) or {}).items()}
    return kept


def reduce_state(kind: str, state: Json) -> Json:
    """Without empty values and times that are not set; a kubelet may leave the reason of a plain wait out."""
    default = ("ContainerCreating", "PodInitializing") if kind == "waiting" else ()
    times = ("startedAt", "finishedAt")
    return {
        name: value
        for name, value in state.items()
        if value and value not in default and not (name in times and value == "1970-01-01T00:00:00Z")
    }


def check_phase(case: Json, want: str) -> None:
    assert compute_phase(case["Pod"], case["Statuses"], case["Terminal"], case["Initialized"]) == want


def check_conditions(case: Json, want: list[Json]) -> None:
    pod, statuses, phase = case["Pod"], case["Statuses"] or [], case["Phase"]
    ready = build_containers_ready(pod, statuses, phase)
    built = [
        build_initialized(pod, statuses, phase, case["Old"].get("conditions") or []),
        build_ready(pod, ready, pod["status"].get("conditions") or []),
        ready,
    ]
    names = ("type", "status", "reason", "message")
    assert built == [{name: condition[name] for name in names if condition.get(name)} for condition in want]


def check_qos(case: Json, want: Json) -> None:
    pod = case["Pod"]
    containers = [*regular_containers(pod), *init_containers(pod)]
    assert qos_class(pod) == want["qos"]
    assert {c["name"]: oom_score_adj(pod, c, case["Capacity"]) for c in containers} == want["oom"]


def check_requests(case: Json, want: Json) -> None:
    pod = case["Pod"]
    for name, computed in (
        ("requests", effective_resources(pod, "requests")),
        ("limits", effective_resources(pod, "limits")),
        ("bare", effective_resources(pod, "requests", overhead=False)),
    ):
        assert {resource: amount * 1000 for resource, amount in computed.items() if amount} == want[name]


def check_dns(case: Json, want: Json) -> None:
    node = NodeFacts(name="n", allocatable={}, clusterDNS=case["ClusterDNS"], clusterDomain="cluster.local")
    config = build_dns_config(case["Pod"], node, case["Resolv"])
    assert list(config.nameservers) == (want["nameservers"] or [])
    assert list(config.searches) == (want["searches"] or [])
    assert sorted(config.options) == sorted(want["options"] or [])
    of_the_node = "Warning MissingClusterDNS kubelet"
    events = [event for event in want["events"] or [] if not event.startswith(of_the_node)]
    assert [f"Warning {reason} {message}" for reason, message in config.warnings] == events


CHECKS: dict[str, Callable[[Json, Any], None]] = {
    "actions": check_actions,
    "status": check_status,
    "phase": check_phase,
    "conditions": check_conditions,
    "qos": check_qos,
    "requests": check_requests,
    "dns": check_dns,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_kubelet_decides_the_same(kind: str) -> None:
    cases = [case for case in CASES if case["kind"] == kind]
    assert len(cases) >= 10
    for case in cases:
        CHECKS[kind](case, case["want"])
