"""Downward API: fieldRef and resourceFieldRef values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from vk_provider.jsontypes import Json
from vk_provider.podmodel.addresses import sort_pod_ips
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.errors import PodModelError
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.spec import init_containers, metadata_of, regular_containers, spec_of

_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_DEFAULTED = ("cpu", "memory", "ephemeral-storage")


def format_map(values: Mapping[str, str]) -> str:
    """Return `key="value"` lines sorted by key, as a downward API file of all labels or annotations holds them."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def quote(text: str) -> str:
    """Return `text` in double quotes with the escapes of a Go string literal."""
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def split_subscript(path: str) -> tuple[str, str] | None:
    """Split `metadata.labels['key']` into path and key; None when there is no subscript."""
    head, opening, rest = path.partition("['")
    if not path.endswith("']") or not opening or not head:
        return None
    return head, rest[:-2]


def resolve_metadata_field(pod: Json, path: str) -> str:
    """Return the value of a fieldRef within metadata; raises PodModelError for another path."""
    metadata = metadata_of(pod)
    subscripted = split_subscript(path)
    if subscripted is not None:
        head, key = subscripted
        if head not in ("metadata.labels", "metadata.annotations"):
            raise PodModelError(f'fieldPath "{path}" does not support subscript')
        return str((metadata.get(head.removeprefix("metadata.")) or {}).get(key, ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(metadata.get(path.removeprefix("metadata.")) or {})
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return metadata.get(path.removeprefix("metadata.")) or ""
    raise PodModelError(f"unsupported fieldPath: {path}")


def resolve_field(pod: Json, path: str, context: PodContext) -> str:
    """Return the value of an environment variable's fieldRef."""
    pod_ips = sort_pod_ips(context.pod_ips, context.host_ips)
    match path:
        case "spec.nodeName":
            return spec_of(pod).get("nodeName") or context.node["name"]
        case "spec.serviceAccountName":
            return spec_of(pod).get("serviceAccountName") or ""
        case "status.hostIP":
            return context.host_ips[0] if context.host_ips else ""
        case "status.hostIPs":
            return ",".join(context.host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    return resolve_metadata_field(pod, path)


def resolve_resource_field(pod: Json, container: Json | None, selector: Json, context: PodContext, env: bool) -> str:
    """Return ceil(value / divisor) of a resourceFieldRef.

    container: the container that declares the variable, None for a volume file; selector.containerName overrides it
    env:       environment variables also default to pod-level limits, volume files only to the Node's allocatable
    """
    name = selector.get("containerName") or ""
    target = container if container is not None and not name else _find(pod, name)
    kind, _, resource = str(selector.get("resource") or "").partition(".")
    if kind not in ("limits", "requests") or not _supported(resource):
        raise PodModelError(f"unsupported container resource : {selector.get('resource')}")
    value = (target.get("resources") or {}).get(kind, {}).get(resource)
    amount = parse_quantity(value) if value is not None else Fraction(0)
    if kind == "limits" and amount == 0 and resource in _DEFAULTED:
        amount = _default_limit(pod, resource, context, env)
    divisor = parse_quantity(selector.get("divisor") or "0") or Fraction(1)
    if resource == "cpu":
        return str(math.ceil(Fraction(math.ceil(amount * 1000), math.ceil(divisor * 1000))))
    return str(math.ceil(Fraction(math.ceil(amount), math.ceil(divisor))))


def _supported(resource: str) -> bool:
    return resource in _DEFAULTED or resource.startswith("hugepages-")


def _find(pod: Json, name: str) -> Json:
    for container in [*regular_containers(pod), *init_containers(pod)]:
        if container.get("name") == name:
            return container
    raise PodModelError(f"container {name} not found")


def _default_limit(pod: Json, resource: str, context: PodContext, env: bool) -> Fraction:
    allocatable = context.node["allocatable"]
    if resource not in allocatable:
        return Fraction(0)
    pod_limit = ((spec_of(pod).get("resources") or {}).get("limits") or {}).get(resource)
    if env and resource != "ephemeral-storage" and pod_limit is not None and parse_quantity(pod_limit):
        return parse_quantity(pod_limit)
    return parse_quantity(allocatable[resource])
