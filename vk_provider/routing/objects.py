"""EndpointSlices and ServiceCIDRs, cut down to what serviceproxy reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Required, TypedDict

from vk_provider.jsontypes import Json
from vk_provider.kube.answers import reader_of
from vk_provider.serviceproxy.endpoint import HEADLESS_LABEL, SERVICE_NAME_LABEL

_METADATA = ("name", "namespace", "uid", "resourceVersion")
_ENDPOINT = ("addresses", "conditions", "nodeName", "hints")
_PORT = ("name", "protocol", "port")


def trim_slice(item: Json) -> Json:
    """What an informer passes on of an EndpointSlice. Of a headless Service's, which count for nothing, the labels."""
    metadata = item["metadata"]
    labels = _pick(metadata.get("labels") or {}, (SERVICE_NAME_LABEL, HEADLESS_LABEL))
    kept: Json = {"metadata": {**_pick(metadata, _METADATA), "labels": labels}, "addressType": item.get("addressType")}
    if HEADLESS_LABEL not in labels and SERVICE_NAME_LABEL in labels:
        kept["endpoints"] = [_pick(endpoint, _ENDPOINT) for endpoint in item.get("endpoints") or []]
        kept["ports"] = [_pick(port, _PORT) for port in item.get("ports") or []]
    return kept


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    labels: dict[str, str] | None


class _Endpoint(TypedDict, total=False):
    addresses: list[str]
    conditions: dict[str, bool | None]
    nodeName: str | None
    hints: Json | None


class _Port(TypedDict, total=False):
    name: str | None
    protocol: str | None
    port: int | None


class _Slice(TypedDict, total=False):
    metadata: Required[_Metadata]
    addressType: str
    endpoints: list[_Endpoint] | None
    ports: list[_Port] | None


read_listed_slice = reader_of(_Slice, trim_slice)
"""As `trim_slice`, with all labels."""


def trim_cidr(item: Json) -> Json:
    spec = _pick(item.get("spec") or {}, ("cidrs",))
    return {"metadata": _pick(item["metadata"], _METADATA), "spec": spec}


def networks_of(items: Iterable[Json]) -> list[str]:
    """The networks of ServiceCIDRs."""
    return [str(network) for item in items for network in item["spec"].get("cidrs") or []]


def _pick(item: Json, names: Iterable[str]) -> Json:
    return {name: item[name] for name in names if name in item}
