"""Pods as `explain` knows them: of this provider, and of other nodes."""

from __future__ import annotations

from vk_provider.explain.facts import PodFacts, Source, TableState
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord


def is_host_network(record: PodRecord) -> bool:
    return bool((record.pod.get("spec") or {}).get("hostNetwork"))


def address_of(record: PodRecord) -> str:
    """Of the pod; "" while it has none."""
    instance = record.instance
    if instance is None or not record.has_instance:
        return ""
    return instance.primary_ip if is_host_network(record) else instance.pod_ip


def describe(record: PodRecord) -> PodFacts:
    return PodFacts(
        namespace=record.namespace,
        name=record.name,
        node=record.node,
        phase=record.phase,
        address=address_of(record),
        is_ours=True,
        host_network=is_host_network(record),
        uid=record.uid,
    )


def describe_foreign(pod: Json) -> PodFacts:
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    return PodFacts(
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata.get("name") or ""),
        node=str(spec.get("nodeName") or "none"),
        phase=str(status.get("phase") or "Pending"),
        address=str(status.get("podIP") or ""),
        is_ours=False,
        host_network=bool(spec.get("hostNetwork")),
    )


def describe_source(record: PodRecord, zone: str) -> Source:
    instance = record.instance if record.has_instance else None
    return Source(
        pod=describe(record),
        instance=instance.instance_id if instance is not None else "",
        instance_address=instance.primary_ip if instance is not None else "",
        zone=zone,
        tables=tuple(
            TableState(flow.name, flow.newest, flow.in_force, flow.behind_s(), flow.held_s()) for flow in record.tables
        ),
    )


def name_pod(key: str, node: str, address: str) -> PodFacts:
    """A pod that an EndpointSlice names."""
    namespace, _, name = key.partition("/")
    return PodFacts(namespace, name, node, "", address, is_ours=False)
