"""Which host ports the pods of a Node have, and where they lead: a Node's pods are not on one machine."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.jsontypes import Json
from vk_provider.podmodel.hostport import ANY_ADDRESSES
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.hostport import HostPort

OnHostPorts = Callable[[str, str, tuple[HostPort, ...]], None]
"""(Node, UID of the pod, its host ports; none when it has no more)."""


class HostPortWatch:
    """`note` after whatever may have changed a record; `on_change` is called when its host ports are others."""

    def __init__(self, on_change: OnHostPorts) -> None:
        self._on_change = on_change
        self._known: dict[str, tuple[HostPort, ...]] = {}

    def note(self, record: PodRecord) -> None:
        ports = find_host_ports(record)
        if ports != self._known.get(record.uid, ()):
            self._set(record, ports)

    def forget(self, record: PodRecord) -> None:
        if record.uid in self._known:
            self._set(record, ())

    def _set(self, record: PodRecord, ports: tuple[HostPort, ...]) -> None:
        if ports:
            self._known[record.uid] = ports
        else:
            del self._known[record.uid]
        self._on_change(record.node, record.uid, ports)


def find_host_ports(record: PodRecord) -> tuple[HostPort, ...]:
    """Of a pod that has an instance and has not ended. All ports of hostNetwork pods are host ports by default."""
    instance, spec = record.instance, record.pod.get("spec") or {}
    if instance is None or not record.has_instance or record.forgotten:
        return ()
    if record.finished or record.phase in TERMINAL_PHASES:
        return ()
    address = instance.primary_ip if spec.get("hostNetwork") else instance.pod_ip
    return tuple(_list_ports(record.pod, address)) if address else ()


def _list_ports(pod: Json, address: str) -> list[HostPort]:
    containers = [*(item for item in init_containers(pod) if is_sidecar(item)), *regular_containers(pod)]
    return [
        HostPort(
            host_ip="" if port.get("hostIP", "") in ANY_ADDRESSES else str(port["hostIP"]),
            protocol=port.get("protocol") or "TCP",
            port=int(port["hostPort"]),
            pod_ip=address,
            container_port=int(port["containerPort"]),
        )
        for container in containers
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]
