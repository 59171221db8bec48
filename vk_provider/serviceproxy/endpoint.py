"""What EndpointSlices say about the endpoints of a Service (endpointslicecache.go). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vk_provider.jsontypes import Json, share_text
from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.service import PROTOCOLS

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""On EndpointSlices: the Service that they belong to."""
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""On slices of headless Services: kube-proxy does not even watch these."""
FAMILIES = {family.api_name: family for family in Family}

PortKey = tuple[Family, str, int]
"""Family, name of the Service's port, IP protocol number."""


class Endpoint(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One address and port behind a Service port.

    address:   canonical text; node: its Node's name, "" when it has none
    ready:     takes new connections (always true with publishNotReadyAddresses)
    serving:   answers, whether it terminates or not
    """

    address: str
    port: int
    node: str
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()

    @property
    def is_last_resort(self) -> bool:
        """It terminates but still answers: used when no endpoint is ready (KEP-1669)."""
        return self.serving and self.terminating

    @property
    def target(self) -> str:
        """As nft writes it: address . port."""
        return f"{self.address} . {self.port}"


class EndpointSlice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A slice that counts: its Service's key (namespace/name), its own name, its endpoints by Service port."""

    service: str
    name: str
    endpoints: dict[PortKey, tuple[Endpoint, ...]]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(EndpointSlice)


def pack_slice(parsed: EndpointSlice) -> bytes:
    """In a fifth of the memory, for as long as nobody looks at it: a cluster has tens of thousands of endpoints. Equal
    for equal slices."""
    return bytes(memoryview(_ENCODER.encode(parsed)))  # what the encoder returns may have room for much more


def unpack_slice(packed: bytes) -> EndpointSlice:
    return _DECODER.decode(packed)


def parse_slice(item: Json) -> EndpointSlice | None:
    """None when it belongs to no Service, to a headless one, or has no IP addresses. What cannot be read is left
    out."""
    metadata = item.get("metadata") or {}
    labels = metadata.get("labels") or {}
    namespace, name, service = metadata.get("namespace"), metadata.get("name"), labels.get(SERVICE_NAME_LABEL)
    family = FAMILIES.get(item.get("addressType") or "")
    if family is None or not (namespace and name and service) or HEADLESS_LABEL in labels:
        return None
    found: dict[PortKey, tuple[Endpoint, ...]] = {}
    for port in item.get("ports") or []:
        number, protocol = port.get("port"), PROTOCOLS.get(port.get("protocol") or "TCP")
        if not isinstance(port.get("name"), str) or type(number) is not int or not 0 < number < 65536:
            continue
        if protocol is not None:
            key = (family, share_text(port["name"]), protocol)
            more = tuple(_endpoints(item.get("endpoints") or [], family, number))
            found[key] = found.get(key, ()) + more
    return EndpointSlice(share_text(f"{namespace}/{service}"), str(name), found)


def merge_slices(slices: Mapping[str, EndpointSlice]) -> dict[PortKey, tuple[Endpoint, ...]]:
    """The endpoints of one Service by port, from its slices by name. Sorted, each address and port once.

    A pod's address may be used again while an older pod with it terminates, and an endpoint that moves between slices
    is in both for a moment: the one that does not terminate wins, then the ready one, then the first slice by name.
    """
    merged: dict[PortKey, dict[tuple[str, int], Endpoint]] = {}
    for name in sorted(slices):
        for key, endpoints in slices[name].endpoints.items():
            chosen = merged.setdefault(key, {})
            for endpoint in endpoints:
                place = (endpoint.address, endpoint.port)
                if place not in chosen or _preference(endpoint) > _preference(chosen[place]):
                    chosen[place] = endpoint
    return {key: tuple(chosen[place] for place in sorted(chosen)) for key, chosen in merged.items() if chosen}


def _preference(endpoint: Endpoint) -> tuple[bool, bool]:
    return (not endpoint.terminating, endpoint.ready)


def _endpoints(written: Iterable[Json], family: Family, port: int) -> Iterable[Endpoint]:
    """Only the first address of an endpoint counts: the API says they are fungible."""
    for item in written:
        addresses = item.get("addresses")
        parsed = parse_address(addresses[0]) if addresses and isinstance(addresses[0], str) else None
        if parsed is None or parsed[0] != family:
            continue
        conditions, hints = item.get("conditions") or {}, item.get("hints") or {}
        yield Endpoint(
            address=parsed[1],
            port=port,
            node=share_text(str(item.get("nodeName") or "")),
            ready=conditions.get("ready") is not False,
            serving=conditions.get("serving") is not False,
            terminating=conditions.get("terminating") is True,
            zone_hints=_names(hints.get("forZones")),
            node_hints=_names(hints.get("forNodes")),
        )


def _names(hints: Any) -> tuple[str, ...]:
    return (
        tuple(sorted({name for hint in hints if isinstance(name := hint.get("name"), str) and name})) if hints else ()
    )
