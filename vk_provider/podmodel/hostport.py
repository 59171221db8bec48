"""Ports of the node that a pod asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers

ANY_ADDRESSES = frozenset({"", "0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class HostPort:
    """`address` is a hostIP as written, \"\" for all addresses."""

    protocol: str
    address: str
    port: int

    def conflicts(self, other: HostPort) -> bool:
        """Whether both cannot be held at once (HostPortInfo.CheckConflict of the scheduler)."""
        same_address = self.address == other.address or not (self.address and other.address)
        return same_address and (self.protocol, self.port) == (other.protocol, other.port)


def host_ports(pod: Json) -> frozenset[HostPort]:
    """The host ports of a pod: of its regular containers and sidecars. hostNetwork pods have all theirs defaulted."""
    containers = [*(item for item in init_containers(pod) if is_sidecar(item)), *regular_containers(pod)]
    return frozenset(
        HostPort(port.get("protocol") or "TCP", _address(port.get("hostIP") or ""), int(port["hostPort"]))
        for container in containers
        for port in container.get("ports") or []
        if port.get("hostPort")
    )


def _address(written: str) -> str:
    return "" if written in ANY_ADDRESSES else written
