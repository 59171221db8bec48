"""Pods as `explain` knows them: of this provider, and of other nodes."""

from __future__ import annotations

from vk_provider.explain.facts import PodFacts, Source, TableState
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.address import parse_address


def is_host_network(record: PodRecord) -> bool:
    return bool((record.pod.get("spec") or {}).get("hostNetwork"))


def addresses_of(record: PodRecord) -> tuple[str, ...]:
    """Of the pod, IPv4 first; none while it has none."""
    instance = record.instance
    if instance is None or not record.has_instance:
        return ()
    return instance.host_ips if is_host_network(record) else instance.pod_ips


def describe(record: PodRecord) -> PodFacts:
    return PodFacts(
        namespace=record.namespace,
        name=record.name,
        node=record.node,
        phase=record.phase,
        addresses=addresses_of(record),
        is_ours=True,
        host_network=is_host_network(record),
        uid=record.uid,
    )


def describe_foreign(pod: Json) -> PodFacts:
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    written = [item.get("ip") for item in status.get("podIPs") or []] or [status.get("podIP")]
    return PodFacts(
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata.get("name") or ""),
        node=str(spec.get("nodeName") or "none"),
        phase=str(status.get("phase") or "Pending"),
        addresses=tuple(parsed[1] for item in written if (parsed := parse_address(item))),
        is_ours=False,
        host_network=bool(spec.get("hostNetwork")),
    )


def describe_source(record: PodRecord, zone: str) -> Source:
    instance = record.instance if record.has_instance else None
    return Source(
        pod=describe(record),
        instance=instance.instance_id if instance is not None else "",
        instance_addresses=instance.host_ips if instance is not None else (),
        zone=zone,
        tables=tuple(
            TableState(flow.name, flow.newest, flow.in_force, flow.behind_s(), flow.held_s()) for flow in record.tables
        ),
    )


def name_pod(key: str, node: str, address: str) -> PodFacts:
    """A pod that an EndpointSlice names."""
    namespace, _, name = key.partition("/")
    return PodFacts(namespace, name, node, "", (address,), is_ours=False)
