"""A kubelet's admission checks, and the policy for pods that would only cost money on this Node. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vk_provider import eventreasons
from vk_provider.cloud.base import InstanceRuntime
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.podmodel.admission import IMAGE_VOLUMES, RECURSIVE_READ_ONLY, SUPPLEMENTAL_GROUPS_POLICY, refuse
from vk_provider.podmodel.extendedresources import is_extended_resource
from vk_provider.podmodel.gpus import GPU, asks_for_gpus
from vk_provider.podmodel.hostport import HeldPorts, HostPort, host_ports
from vk_provider.podmodel.labels import Selector, parse_selector
from vk_provider.podmodel.nodematch import matches_node, tolerates_node
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.resources import effective_resources
from vk_provider.sizing.requirement import ARCHITECTURE, LABELS

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
"""On the mirror of a static pod, which does not run here: it is left Pending."""
_INSTANCE_LABELS = frozenset(LABELS) - {ARCHITECTURE}
"""A Node has one architecture, which is a label of its own."""
_INSTANCE_PREFIXES = ("node.kubernetes.io/instance-", "karpenter.sh/", "topology.kubernetes.io/")


@dataclass(frozen=True, slots=True)
class Verdict:
    """refuse: the pod becomes Failed with this reason; otherwise it is held Pending, with an event."""

    refuse: bool
    reason: EventReason
    message: str


def parse_daemonsets(setting: str) -> Selector | None:
    """The setting pods.daemonsets as a selector of the DaemonSet pods that run; None for none of them."""
    return None if setting == "refuse" else Selector(()) if setting == "run" else parse_selector(setting)


def hold_by_policy(pod: Json, daemonsets: Selector | None) -> Verdict | None:
    """The verdict on pods that get no instance by policy, None for all others. `daemonsets`: of parse_daemonsets."""
    metadata = pod["metadata"]
    if MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        return Verdict(False, eventreasons.MIRROR_POD_NOT_SUPPORTED, "static pods do not run on a nodeless node")
    owners = metadata.get("ownerReferences") or []
    if any(owner.get("kind") == "DaemonSet" and owner.get("controller") for owner in owners):
        if daemonsets is not None and daemonsets.matches(metadata.get("labels") or {}):
            return None
        return Verdict(
            False,
            eventreasons.DAEMONSET_NOT_SUPPORTED,
            "a DaemonSet pod would cost an instance of its own on a nodeless node, so it is left Pending; keep the "
            'DaemonSet away with a node affinity "type NotIn (virtual-kubelet)", or set pods.daemonsets to "run" '
            "or to a selector of its pods",
        )
    return None


class NodeUsage:
    """Requests of the live pods of one Node, kept as running sums so that a burst costs O(1) per pod."""

    def __init__(self) -> None:
        self._requests: dict[str, Mapping[str, Fraction]] = {}
        self._ports = HeldPorts()
        self.used: dict[str, Fraction] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, pod: Json) -> None:
        """Count a pod by its requests and host ports; a pod that is counted already is replaced."""
        uid = pod["metadata"]["uid"]
        self.remove(uid)
        requests = effective_resources(pod, "requests")
        self._requests[uid] = requests
        for name, amount in requests.items():
            self.used[name] = self.used.get(name, Fraction(0)) + amount
        self._ports.hold(uid, host_ports(pod))

    def remove(self, uid: str) -> None:
        self._ports.release(uid)
        for name, amount in self._requests.pop(uid, {}).items():
            self.used[name] -= amount

    def has_free(self, ports: frozenset[HostPort]) -> bool:
        """Whether no counted pod uses one of these host ports."""
        return self._ports.has_free(ports)


def features_of(runtime: InstanceRuntime) -> frozenset[str]:
    """Features of the instances' runtime, by the names of podmodel.admission.

    Never user namespaces: the agent maps no user IDs, even if the runtime supports it.
    """
    can = {
        IMAGE_VOLUMES: runtime.image_volumes,
        RECURSIVE_READ_ONLY: runtime.recursive_read_only_mounts,
        SUPPLEMENTAL_GROUPS_POLICY: runtime.supplemental_groups_policy,
    }
    return frozenset(name for name, able in can.items() if able)


def admit(
    pod: Json, node: Json, usage: NodeUsage, features: frozenset[str] = frozenset(), no_gpus: str = ""
) -> Verdict | None:
    """The kubelet's admission for a pod bound to `node` (the Node object); a pod that passes is added to `usage`.

    `features`: as of features_of; no_gpus: see InstanceRuntime. The order is that of scheduler.AdmissionCheck: the
    first failure is the one told.
    """
    refusal = refuse(pod, features)
    if refusal is not None:
        return Verdict(True, refusal.reason, refusal.message)
    if no_gpus and asks_for_gpus(pod):
        return Verdict(True, eventreasons.POD_FEATURE_UNSUPPORTED, f"{GPU} is not supported by this node: {no_gpus}")
    allocatable = (node.get("status") or {}).get("allocatable")
    requests = effective_resources(pod, "requests")
    verdict = (
        _check_capacity(requests, allocatable, usage)
        or _check_affinity(pod, node)
        or _check_ports(pod, usage)
        or _check_taints(pod, node)
    )
    if verdict is None:
        usage.add(pod)
    return verdict


def _check_ports(pod: Json, usage: NodeUsage) -> Verdict | None:
    """Refuse a pod whose host port another pod of the Node uses, as the scheduler and a kubelet do.

    Here every pod has an address of its own, but a controller that relies on the refusal would wait for ever without
    it.
    """
    if usage.has_free(host_ports(pod)):
        return None
    return Verdict(
        True,
        eventreasons.NODE_PORTS,
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )


def _check_affinity(pod: Json, node: Json) -> Verdict | None:
    if matches_node(pod, node, _chooses_instance):
        return None
    return Verdict(
        True,
        eventreasons.NODE_AFFINITY,
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )


def _check_taints(pod: Json, node: Json) -> Verdict | None:
    """Taints of other effects are the scheduler's alone, and so is the Node's own (virtual-kubelet.io/provider)."""
    if tolerates_node(pod, node):
        return None
    return Verdict(
        True,
        eventreasons.TAINT_TOLERATION,
        "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    )


def _chooses_instance(key: str) -> bool:
    """Whether a label chooses the instance rather than the Node; `sizing` evaluates them."""
    return key in _INSTANCE_LABELS or key.startswith(_INSTANCE_PREFIXES)


_FIRST_CHECKED = ("cpu", "memory", "ephemeral-storage")


def _check_capacity(
    requests: Mapping[str, Fraction], allocatable: Mapping[str, Any] | None, usage: NodeUsage
) -> Verdict | None:
    """fitsRequest of the scheduler, as a kubelet calls it: without the extended resources that the Node does not have
    (removeMissingExtendedResources), which an extender of the scheduler may count for the whole cluster."""
    if not allocatable:
        return None
    limit = int(parse_quantity(allocatable.get("pods", "110")))
    if len(usage) + 1 > limit:
        return Verdict(True, eventreasons.OUT_OF_PODS, _lack("pods", "1", str(len(usage)), str(limit)))
    for name in (*_FIRST_CHECKED, *sorted(requests.keys() - set(_FIRST_CHECKED))):
        wanted = requests.get(name)
        if not wanted or (name not in allocatable and is_extended_resource(name)):
            continue
        used, capacity = usage.used.get(name, Fraction(0)), parse_quantity(allocatable.get(name, "0"))
        if used + wanted > capacity:
            factor = 1000 if name == "cpu" else 1
            figures = (str(math.ceil(amount * factor)) for amount in (wanted, used, capacity))
            return Verdict(True, eventreasons.out_of(name), _lack(name, *figures))
    return None


def _lack(name: str, requested: str, used: str, capacity: str) -> str:
    return f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
