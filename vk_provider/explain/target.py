"""TARGET[:PORT] as it is written on the command line. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Literal

from vk_provider.errors import VkError
from vk_provider.podmodel.labels import is_subdomain
from vk_provider.serviceproxy.address import parse_address
from vk_provider.serviceproxy.service import PROTOCOLS

MAX_WRITTEN = 512
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
"""IANA_SVC_NAME, as the API demands it of the names of ports."""


class QuestionError(VkError):
    """The question cannot be answered as it was put; str() says what to write instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """kind:     "service", "pod", "address", or "name": one that is not the cluster's
    name:     of the Service or pod; the whole name of a "name"
    host:     of one endpoint of a headless Service: the first label of host.service.namespace.svc
    outside:  the whole name where it is one of outside of the cluster if there is no such Service, else ""
    address:  canonical
    port:     number or name; "" when it was not said
    protocol: "TCP", "UDP" or "SCTP"; "" when it was not said
    """

    kind: Literal["service", "pod", "address", "name"]
    namespace: str = ""
    name: str = ""
    host: str = ""
    outside: str = ""
    address: str = ""
    port: str = ""
    protocol: str = ""

    @property
    def number(self) -> int:
        """The port as a number; 0 when it has a name or was not said."""
        return int(self.port) if self.port.isdecimal() else 0

    @property
    def is_name(self) -> bool:
        """Whether a client of it asks DNS first."""
        return self.kind in ("service", "name")


def parse_target(written: str, namespace: str, domain: str, protocol: str = "") -> Target:
    """Raises QuestionError. namespace: of the pod that asks, whose Services need no namespace; domain: the cluster's.

    A name means what the search list of a pod's resolver makes of it first: a.b is the Service a in the namespace b,
    and the name a.b itself if there is none. With a dot at its end (absolute) it is what it says.
    """
    if len(written) > MAX_WRITTEN:
        raise QuestionError("TARGET is too long")
    protocol = protocol.upper()
    if protocol and protocol not in PROTOCOLS:
        raise QuestionError(f"no protocol of Services: {protocol!r}; there are {', '.join(PROTOCOLS)}")
    host, port = _split_port(written)
    return replace(_parse_host(host, namespace, domain.strip(".")), port=port, protocol=protocol)


def ask_port(written: str) -> QuestionError:
    """What was written has no port, or the name of one where only a number says which is meant."""
    host, port = _split_port(written)
    host = f"[{host}]" if ":" in host else host
    return QuestionError(f"say the port as a number, such as {host}:80" if port else f"say the port: {host}:PORT")


def _split_port(written: str) -> tuple[str, str]:
    if written.startswith("["):
        host, bracket, rest = written[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise QuestionError(f"an address in brackets is written [ADDRESS]:PORT, not {written!r}")
        return host, _check_port(rest[1:]) if rest else ""
    if written.count(":") > 1:  # an IPv6 address
        return written, ""
    host, colon, port = written.partition(":")
    return host, _check_port(port) if colon else ""


def _check_port(written: str) -> str:
    if written.isascii() and written.isdecimal() and len(written) < 6 and 0 < int(written) < 65536:
        return str(int(written))
    if _PORT_NAME.fullmatch(written):
        return written
    raise QuestionError(f"neither a port nor the name of one: {written!r}")


def _parse_host(host: str, namespace: str, domain: str) -> Target:
    parsed = parse_address(host)
    if parsed is not None:
        if ipaddress.ip_address(parsed[1]).is_loopback:
            raise _itself(host)
        return Target("address", address=parsed[1])
    kind, slash, rest = host.partition("/")
    if slash:
        return _parse_object(kind, rest, namespace)
    name = host.removesuffix(".")
    if not is_subdomain(name):
        raise QuestionError(f"neither an address nor a name: {host!r}")
    if name == "localhost":
        raise _itself(host)
    is_absolute = name != host
    return _find_service(name, domain, is_absolute) or _search(name, namespace, is_absolute)


def _itself(host: str) -> QuestionError:
    return QuestionError(
        f"{host} is the pod itself, or with hostNetwork a host port of its Node: that is not explained"
    )


def _parse_object(kind: str, rest: str, namespace: str) -> Target:
    """pod/NAME, pod/NAMESPACE/NAME, and the same with svc or service."""
    parts = rest.split("/")
    if kind not in ("pod", "svc", "service") or len(parts) > 2 or not all(map(is_subdomain, parts)):
        raise QuestionError(
            f"an object is written pod/NAME or svc/NAME, with its namespace pod/NAMESPACE/NAME: {kind}/{rest}"
        )
    where = parts[0] if len(parts) == 2 else namespace
    return Target("pod" if kind == "pod" else "service", where, parts[-1])


def parse_absolute(name: str, domain: str) -> Target | None:
    """The Service that an absolute name is one of, such as what an ExternalName stands for."""
    return _find_service(name.removesuffix("."), domain.strip("."), is_absolute=True)


def _find_service(name: str, domain: str, is_absolute: bool) -> Target | None:
    """By service.namespace.svc, which is whole with the cluster's domain alone."""
    is_whole = bool(domain) and name.endswith(f".svc.{domain}")
    if is_absolute and not is_whole:
        return None
    labels = (name.removesuffix(f".{domain}") if is_whole else name).split(".")
    if labels[-1] != "svc" or len(labels) not in (3, 4):
        return None
    return Target("service", labels[-2], labels[-3], host=labels[0] if len(labels) == 4 else "")


def _search(name: str, namespace: str, is_absolute: bool) -> Target:
    labels = name.split(".")
    if is_absolute or len(labels) > 2:
        return Target("name", name=name)
    return (
        Target("service", namespace, name)
        if len(labels) == 1
        else Target("service", labels[1], labels[0], outside=name)
    )
