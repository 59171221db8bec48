"""Capacity and allocatable of a Node: its own, and what others have put on it. Pure.

Source: pkg/kubelet/nodestatus/setters.go (MachineInfo), pkg/kubelet/kubelet_node_status.go (reconcileHugePageResource).
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.node.spec import NodeSpec
from vk_provider.podmodel.extendedresources import HUGE_PAGES_PREFIX, is_extended_resource

Amounts = dict[str, Any]


def build_resources(spec: NodeSpec, previous: Json) -> tuple[Amounts, Amounts]:
    """(capacity, allocatable) to be merged into the Node's status; None removes an entry.

    previous: status as last read

    What others have written into capacity stays and becomes allocatable, as an administrator expects who advertises
    an extended resource. The patch has no capacity of theirs: it could be older than what they have written meanwhile.
    What they have taken out of capacity is not allocatable any more, and huge pages are no machine's here.
    A kubelet without a device plugin's checkpoint sets foreign capacities to 0 when it starts, since the machine may
    be a new one. Here a start of the provider changes no machine, so they stay.
    """
    held, held_allocatable = (previous.get(name) or {} for name in ("capacity", "allocatable"))
    own = spec.capacity
    foreign = {name: amount for name, amount in held.items() if name not in spec.capacity}
    gone = {name: None for name in foreign if name.startswith(HUGE_PAGES_PREFIX)}
    taken = {
        name: None
        for name in held_allocatable
        if name not in held and name not in own and (is_extended_resource(name) or name.startswith(HUGE_PAGES_PREFIX))
    }
    return {**spec.capacity, **gone}, {**foreign, **own, **gone, **taken}


def allocatable_of(spec: NodeSpec, status: Json) -> Amounts:
    """What the Node offers to pods by `status`, also while the status does not say it yet."""
    merged = {**(status.get("allocatable") or {}), **build_resources(spec, status)[1]}
    return {name: amount for name, amount in merged.items() if amount is not None}


def foreign_capacity(spec: NodeSpec, status: Json) -> Amounts:
    """What others have put on the Node."""
    return {name: amount for name, amount in (status.get("capacity") or {}).items() if name not in spec.capacity}
