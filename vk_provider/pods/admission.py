"""What a kubelet checks before it takes a pod, and the policy for pods that would only cost money here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vk_provider.podmodel import admission as podmodel_admission
from vk_provider.podmodel.quantity import milli, parse_quantity
from vk_provider.podmodel.resources import effective_requests

Json = dict[str, Any]

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


@dataclass(frozen=True, slots=True)
class Verdict:
    """refuse: the pod becomes Failed with this reason; otherwise it is held Pending, with an event."""

    refuse: bool
    reason: str
    message: str


def hold_by_policy(pod: Json, run_daemonsets: bool) -> Verdict | None:
    """Pods that get no instance on purpose."""
    metadata = pod["metadata"]
    if MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        return Verdict(False, "MirrorPodNotSupported", "static pods do not run on a nodeless node")
    owners = metadata.get("ownerReferences") or []
    if not run_daemonsets and any(owner.get("kind") == "DaemonSet" and owner.get("controller") for owner in owners):
        return Verdict(
            False,
            "DaemonSetNotSupported",
            "a DaemonSet pod would cost an instance of its own on a nodeless node, so it is left Pending; keep the "
            'DaemonSet away with a node affinity "type NotIn (virtual-kubelet)", or set pods.daemonsets = "run"',
        )
    return None


def admit(pod: Json, node: Json, others: Iterable[Json]) -> Verdict | None:
    """The kubelet's admission for a pod bound to `node`; `others` are the Node's other live pods."""
    refusal = podmodel_admission.refuse(pod)
    if refusal is not None:
        return Verdict(True, refusal.reason, refusal.message)
    return _check_selector(pod, node) or _check_capacity(pod, (node.get("status") or {}).get("allocatable"), others)


def _check_selector(pod: Json, node: Json) -> Verdict | None:
    labels = node["metadata"].get("labels") or {}
    for key, value in (pod["spec"].get("nodeSelector") or {}).items():
        if labels.get(key) != value and not _is_offering_label(key):
            return Verdict(True, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node "
                           "affinity/selector")  # fmt: skip
    return None


def _is_offering_label(key: str) -> bool:
    """Labels that choose the instance, not the Node; sizing answers them."""
    return key.startswith(("node.kubernetes.io/instance-", "karpenter.sh/", "topology.kubernetes.io/"))


def _check_capacity(pod: Json, allocatable: Mapping[str, Any] | None, others: Iterable[Json]) -> Verdict | None:
    if not allocatable:
        return None
    wanted = {name: parse_quantity(value) for name, value in effective_requests(pod).items()}
    relevant = [name for name in wanted if name in allocatable]
    used = dict.fromkeys(relevant, parse_quantity(0))
    count = 0
    for other in others:
        count += 1
        requests = effective_requests(other)
        for name in relevant:
            if name in requests:
                used[name] += parse_quantity(requests[name])
    limit = int(parse_quantity(allocatable.get("pods", "110")))
    if count + 1 > limit:
        return Verdict(True, "OutOfpods", _lack("pods", "1", str(count), str(limit)))
    for name in relevant:
        capacity = parse_quantity(allocatable[name])
        if used[name] + wanted[name] > capacity:
            show = (lambda amount: str(milli(amount))) if name == "cpu" else (lambda amount: str(int(amount)))
            return Verdict(True, f"OutOf{name}", _lack(name, show(wanted[name]), show(used[name]), show(capacity)))
    return None


def _lack(name: str, requested: str, used: str, capacity: str) -> str:
    return (
        f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    )
