"""Which host ports the pods of a Node have, and where they lead: a Node's pods are not on one machine."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.podmodel.hostport import host_address, list_ports, protocol_of
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.hostport import HostPort

OnHostPorts = Callable[[str, str, tuple[HostPort, ...]], None]
"""(Node, UID of the pod, its host ports; none when it has no more)."""


class HostPortWatch:
    """`note` after whatever may have changed a record; `on_change` is called when its host ports are others."""

    def __init__(self, on_change: OnHostPorts) -> None:
        self._on_change = on_change
        self._known: dict[str, tuple[HostPort, ...]] = {}
        self._without: set[str] = set()
        """UIDs of pods that declare none, as most: ports cannot be added to a pod."""

    def note(self, record: PodRecord) -> None:
        if record.uid in self._without:
            return
        if not record.forgotten and next(list_ports(record.pod), None) is None:
            self._without.add(record.uid)
            return
        ports = find_host_ports(record)
        if ports != self._known.get(record.uid, ()):
            self._set(record, ports)

    def forget(self, record: PodRecord) -> None:
        self._without.discard(record.uid)
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
    if record.report.finished or record.phase in TERMINAL_PHASES:
        return ()
    addresses = instance.host_ips if spec.get("hostNetwork") else instance.pod_ips
    return tuple(
        HostPort(host_address(port), protocol_of(port), int(port["hostPort"]), address, int(port["containerPort"]))
        for port in list_ports(record.pod)
        for address in addresses
    )
