"""Builds the Node object and its status as a kubelet would. Pure: time is an argument."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from vk_provider import eventreasons
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.node.resources import build_resources
from vk_provider.node.spec import PROVIDER_TAINT_KEY, NodeSpec
from vk_provider.rfc3339 import format_time

REQUIRED_RESOURCES = ("cpu", "memory", "pods", "ephemeral-storage")
READY_REASON, NOT_READY_REASON = "KubeletReady", "KubeletNotReady"
MAX_IMAGES = 50

_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
PRESSURE_EVENTS: dict[str, EventReason] = {
    "MemoryPressure": eventreasons.NODE_HAS_SUFFICIENT_MEMORY,
    "DiskPressure": eventreasons.NODE_HAS_NO_DISK_PRESSURE,
    "PIDPressure": eventreasons.NODE_HAS_SUFFICIENT_PID,
}


def build_node(spec: NodeSpec, not_ready: Sequence[str], now: float, images: Sequence[Json] = ()) -> Json:
    """The whole Node for its registration; `not_ready` as in build_status."""
    node_spec: Json = {"taints": [taint.to_api() for taint in spec.taints]} if spec.taints else {}
    node_spec["providerID"] = spec.provider_id or f"vk-provider://{spec.name}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": build_labels(spec), "annotations": build_annotations(spec)},
        "spec": node_spec,
        "status": build_status(spec, not_ready, {}, now, images),
    }


def build_labels(spec: NodeSpec) -> dict[str, str]:
    """Labels that NodeRestriction lets a node set for itself."""
    labels = {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": spec.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": spec.architecture,
        "type": "virtual-kubelet",
        # The node's address is no backend for a load balancer: only the kubelet API listens there.
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }
    if spec.zone:
        labels["topology.kubernetes.io/zone"] = spec.zone
    if spec.region:
        labels["topology.kubernetes.io/region"] = spec.region
    return labels | spec.labels


def build_annotations(spec: NodeSpec) -> dict[str, str]:
    return {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}


def build_status(
    spec: NodeSpec, not_ready: Sequence[str], previous: Json, now: float, images: Sequence[Json] = ()
) -> Json:
    """status of the Node.

    not_ready: reasons why the node is not ready, empty when it is
    previous:  status as last read; lastTransitionTime is kept where a condition's status did not change, and what
               others have put on the Node is allocatable
    images:    [{"names", "sizeBytes"}]
    """
    missing = [name for name in REQUIRED_RESOURCES if name not in spec.capacity]
    problems = [*not_ready, *([f"missing node capacity for resources: {', '.join(missing)}"] if missing else [])]
    capacity, allocatable = build_resources(spec, previous)
    status: Json = {
        "capacity": capacity,
        "allocatable": allocatable,
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in spec.internal_ips),
            {"type": "Hostname", "address": spec.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": spec.kubelet_port}},
        "nodeInfo": _build_node_info(spec),
        "conditions": _build_conditions(problems, previous, now),
        "images": list(images)[:MAX_IMAGES],
    }
    # null removes what an earlier provider, whose instances had another runtime, has set.
    status["declaredFeatures"] = sorted(set(spec.declared_features)) or None  # any other order is refused
    status["runtimeHandlers"] = list(spec.runtime_handlers) or None
    status["features"] = {"supplementalGroupsPolicy": True} if spec.supplemental_groups_policy else None
    return status


def _build_node_info(spec: NodeSpec) -> Json:
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{spec.name}.vk-provider")
    return {
        "machineID": identity.hex,
        "systemUUID": str(identity),
        "bootID": str(identity),
        "kernelVersion": spec.kernel_version,
        "osImage": spec.os_image,
        "containerRuntimeVersion": spec.container_runtime_version,
        "kubeletVersion": spec.kubelet_version,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": spec.architecture,
    }


def _build_conditions(problems: Sequence[str], previous: Json, now: float) -> list[Json]:
    wanted = [(kind, "False", reason, message) for kind, reason, message in _PRESSURES]
    if problems:
        wanted.append(("Ready", "False", NOT_READY_REASON, aggregate(problems)))
    else:
        wanted.append(("Ready", "True", READY_REASON, "kubelet is posting ready status"))
    known = {condition["type"]: condition for condition in previous.get("conditions") or []}
    return [_build_condition(*condition, known.get(condition[0]), now) for condition in wanted]


def _build_condition(kind: str, status: str, reason: str, message: str, known: Json | None, now: float) -> Json:
    since = format_time(now)
    if known is not None and known.get("status") == status:
        since = known.get("lastTransitionTime") or since
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": format_time(now),
        "lastTransitionTime": since,
    }


def aggregate(problems: Sequence[str]) -> str:
    """Several errors in one line, as Kubernetes' aggregate error prints them, without repetitions."""
    distinct = list(dict.fromkeys(problems))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def condition_states(status: Json) -> dict[str, tuple[str, str, str]]:
    """{type: (status, reason, message)} of a Node's conditions, without the times."""
    return {
        condition["type"]: (condition["status"], condition.get("reason", ""), condition.get("message", ""))
        for condition in status.get("conditions") or []
    }


def plan_reconcile(spec: NodeSpec, node: Json) -> Json | None:
    """Strategic-merge patch that sets labels, annotations and the provider's own taint of an existing Node to the
    configured ones; None when they are equal."""
    metadata, patch = node["metadata"], {}
    for name, wanted in (("labels", build_labels(spec)), ("annotations", build_annotations(spec))):
        present = metadata.get(name) or {}
        changed = {key: value for key, value in wanted.items() if present.get(key) != value}
        if changed:
            patch[name] = changed
    document: Json = {}
    taints = (node.get("spec") or {}).get("taints") or []
    kept = [taint for taint in taints if taint["key"] != PROVIDER_TAINT_KEY]
    own = [taint.to_api() for taint in spec.taints if taint.key == PROVIDER_TAINT_KEY]
    if [taint for taint in taints if taint["key"] == PROVIDER_TAINT_KEY] != own:
        # taints is an atomic list: with the version, a taint that another writer sets meanwhile is not overwritten.
        document["spec"] = {"taints": kept + own}
        patch["resourceVersion"] = metadata["resourceVersion"]
    if patch:
        document["metadata"] = patch
    return document or None
