"""Ports of the node that a pod asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers

_ANY_ADDRESSES = frozenset({"", "0.0.0.0", "::"})


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
    """The host ports of a pod. hostNetwork pods have all theirs defaulted."""
    return frozenset(HostPort(protocol_of(port), host_address(port), int(port["hostPort"])) for port in list_ports(pod))


def list_ports(pod: Json) -> Iterator[Json]:
    """The ContainerPorts with a hostPort, of regular containers and sidecars."""
    containers = (*(item for item in init_containers(pod) if is_sidecar(item)), *regular_containers(pod))
    return (port for container in containers for port in container.get("ports") or [] if port.get("hostPort"))


def protocol_of(port: Json) -> str:
    return port.get("protocol") or "TCP"


def host_address(port: Json) -> str:
    """A ContainerPort's hostIP as written, "" for all addresses."""
    written: str = port.get("hostIP") or ""
    return "" if written in _ANY_ADDRESSES else written
