"""Ports of the node that a pod asks for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
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


class HeldPorts:
    """The host ports of many pods, by UID. What a question costs grows with the ports that are asked about alone."""

    def __init__(self) -> None:
        self._of_pod: dict[str, frozenset[HostPort]] = {}
        self._addresses: dict[tuple[str, int], Counter[str]] = {}

    def hold(self, uid: str, ports: frozenset[HostPort]) -> None:
        """In place of what the pod has held before."""
        self.release(uid)
        if ports:
            self._of_pod[uid] = ports
        for port in ports:
            self._addresses.setdefault((port.protocol, port.port), Counter())[port.address] += 1

    def release(self, uid: str) -> None:
        for port in self._of_pod.pop(uid, ()):
            addresses = self._addresses[port.protocol, port.port]
            addresses[port.address] -= 1
            if not addresses[port.address]:
                del addresses[port.address]
            if not addresses:
                del self._addresses[port.protocol, port.port]

    def has_free(self, ports: Iterable[HostPort]) -> bool:
        """Whether none of them is held (HostPortInfo.CheckConflict of the scheduler): all addresses conflict with any
        one."""
        for port in ports:
            addresses = self._addresses.get((port.protocol, port.port))
            if addresses and (not port.address or port.address in addresses or "" in addresses):
                return False
        return True


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
