"""Objects, their versions and their history. Objects are replaced, never changed.

Errors are KubeApiError with the API server's status and reason.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from tests.simulation.apiserver import rules
from tests.simulation.apiserver.merge import merge_json, merge_strategic
from tests.simulation.apiserver.rules import refuse
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_time

Key = tuple[str, str]
"""(namespace, name)."""
FIRST_VERSION = 1_000
_META_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace")
SPEC_GENERATION = ("pods", "networkpolicies")
"""Resources whose metadata.generation counts changes of the spec."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource: `api` is its apiVersion, `has_status` whether its status is a subresource."""

    api: str
    name: str
    namespaced: bool = True
    has_status: bool = False


KINDS: dict[str, Kind] = {
    "pods": Kind("v1", "Pod", has_status=True),
    "nodes": Kind("v1", "Node", namespaced=False, has_status=True),
    "namespaces": Kind("v1", "Namespace", namespaced=False),
    "events": Kind("v1", "Event"),
    "services": Kind("v1", "Service"),
    "configmaps": Kind("v1", "ConfigMap"),
    "secrets": Kind("v1", "Secret"),
    "serviceaccounts": Kind("v1", "ServiceAccount"),
    "leases": Kind("coordination.k8s.io/v1", "Lease"),
    "endpointslices": Kind("discovery.k8s.io/v1", "EndpointSlice"),
    "networkpolicies": Kind("networking.k8s.io/v1", "NetworkPolicy"),
    "servicecidrs": Kind("networking.k8s.io/v1", "ServiceCIDR", namespaced=False),
    "runtimeclasses": Kind("node.k8s.io/v1", "RuntimeClass", namespaced=False),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One version of one object. `old` is None for a new one, `new` is None for one that is gone (`old` then has the
    version of its deletion)."""

    version: int
    old: Json | None
    new: Json | None


class Selector:
    """A fieldSelector and the namespace of a request."""

    def __init__(self, namespace: str, field_selector: str) -> None:
        self.namespace = namespace
        parts = [part.partition("=") for part in field_selector.split(",") if part]
        self._wanted = [(tuple(path.split(".")), value) for path, _, value in parts]

    def matches(self, item: Json | None) -> bool:
        if item is None or (self.namespace and item["metadata"].get("namespace") != self.namespace):
            return False
        return all(_field(item, path) == value for path, value in self._wanted)


def _field(item: Json, path: tuple[str, ...]) -> str:
    value: object = item
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return str(value if value is not None else "")


class Store:
    """on_change(resource, change) is called for each new version."""

    def __init__(self, rng: random.Random, on_change: Callable[[str, Change], None] = lambda *_: None) -> None:
        self._rng = rng
        self._on_change = on_change
        self._objects: dict[str, dict[Key, Json]] = {name: {} for name in KINDS}
        self.history: dict[str, list[Change]] = {name: [] for name in KINDS}
        self.compacted = FIRST_VERSION - 1
        self.version = FIRST_VERSION

    # --- read --------------------------------------------------------------------------------------------------------

    def find(self, resource: str, namespace: str, name: str) -> Json | None:
        return self._objects[resource].get((namespace, name))

    def get(self, resource: str, namespace: str, name: str) -> Json:
        found = self.find(resource, namespace, name)
        if found is None:
            raise refuse(HTTPStatus.NOT_FOUND, "NotFound", f'{resource} "{name}" not found')
        return found

    def items(self, resource: str, selector: Selector | None = None) -> list[Json]:
        found = self._objects[resource]
        keys = sorted(found)
        return [found[key] for key in keys if selector is None or selector.matches(found[key])]

    def since(self, resource: str, version: int) -> Iterator[Change]:
        """Raises KubeApiError(410)."""
        if version < self.compacted:
            raise refuse(HTTPStatus.GONE, "Expired", f"too old resource version: {version} ({self.compacted + 1})")
        return (change for change in self.history[resource] if change.version > version)

    # --- write -------------------------------------------------------------------------------------------------------

    def create(self, resource: str, namespace: str, body: Json) -> Json:
        kind = KINDS[resource]
        item = {"apiVersion": kind.api, "kind": kind.name, **body}
        metadata = item["metadata"] = dict(body.get("metadata") or {})
        if kind.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace") or "default"
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + "".join(self._rng.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        rules.check_new(resource, item)
        key = (metadata.get("namespace", ""), metadata["name"])
        if key in self._objects[resource]:
            raise refuse(HTTPStatus.CONFLICT, "AlreadyExists", f'{resource} "{metadata["name"]}" already exists')
        metadata["uid"] = self._new_uid()
        metadata["creationTimestamp"] = format_time()
        rules.prepare_new(resource, item)
        return self._put(resource, key, None, item)

    def _new_uid(self) -> str:
        digits = self._rng.randbytes(16).hex()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def update(self, resource: str, namespace: str, name: str, body: Json, sub: str = "") -> Json:
        """PUT."""
        held = self.get(resource, namespace, name)
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version and version != held["metadata"]["resourceVersion"]:
            raise _changed(resource, name)
        return self._replace(resource, held, {**body, "metadata": dict(body["metadata"])}, sub)

    def patch(self, resource: str, namespace: str, name: str, patch: Json, content_type: str, sub: str = "") -> Json:
        held = self.get(resource, namespace, name)
        metadata = patch.get("metadata") or {}
        uid = metadata.get("uid")
        if uid and uid != held["metadata"]["uid"]:
            # A PATCH has no preconditions: its UID is compared as any immutable field (ValidateObjectMetaUpdate).
            message = f'{held["kind"]} "{name}" is invalid: metadata.uid: Invalid value: "{uid}": field is immutable'
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message)
        if metadata.get("resourceVersion") not in (None, held["metadata"]["resourceVersion"]):
            raise _changed(resource, name)
        merge = merge_strategic if content_type.startswith("application/strategic") else merge_json
        return self._replace(resource, held, merge(held, patch), sub)

    def _replace(self, resource: str, held: Json, wanted: Json, sub: str) -> Json:
        """`wanted` as the new version of `held`: its status alone, or everything else."""
        kind = KINDS[resource]
        item = copy.deepcopy(wanted)
        if sub == "status":
            item = {**held, "status": item.get("status") or {}}
            rules.normalize_status(resource, item["status"])
            rules.check_status(resource, held, item)
        else:
            kept = {name: held["metadata"][name] for name in _META_KEPT if name in held["metadata"]}
            item["metadata"] = {**item["metadata"], **kept}
            if kind.has_status:
                item["status"] = held["status"]
            if resource in SPEC_GENERATION and item.get("spec") != held.get("spec"):
                item["metadata"]["generation"] = int(held["metadata"].get("generation") or 0) + 1
        item["metadata"] = {**item["metadata"], "resourceVersion": held["metadata"]["resourceVersion"]}
        if item == held:
            return held
        if _is_released(item["metadata"]):
            return self._remove(resource, held)
        return self._put(resource, _key(held), held, item)

    def delete(self, resource: str, namespace: str, name: str, options: Json | None = None) -> Json:
        held = self.get(resource, namespace, name)
        uid = ((options or {}).get("preconditions") or {}).get("uid")
        if uid and uid != held["metadata"]["uid"]:
            what = f'Operation cannot be fulfilled on {held["kind"]} "{name}": the UID in the precondition ({uid})'
            message = f"{what} does not match the UID in record ({held['metadata']['uid']})"
            raise refuse(HTTPStatus.CONFLICT, "Conflict", message)
        if resource == "pods":
            grace_s = rules.deletion_grace_s(held, (options or {}).get("gracePeriodSeconds"))
            held = self._mark_deleting(held, grace_s)
            if grace_s > 0 or held["metadata"].get("finalizers"):
                return held
        return self._remove(resource, held)

    def _mark_deleting(self, pod: Json, grace_s: int) -> Json:
        """A second deletion may only shorten the first."""
        metadata = dict(pod["metadata"])
        if metadata.get("deletionTimestamp"):
            if grace_s >= int(metadata.get("deletionGracePeriodSeconds") or 0):
                return pod
        else:
            metadata["generation"] = int(metadata.get("generation") or 0) + 1
        metadata |= {"deletionTimestamp": format_time(time.time() + grace_s), "deletionGracePeriodSeconds": grace_s}
        return self._put("pods", _key(pod), pod, {**pod, "metadata": metadata})

    def _remove(self, resource: str, held: Json) -> Json:
        del self._objects[resource][_key(held)]
        self.version += 1
        metadata = {**held["metadata"], "resourceVersion": str(self.version)}
        gone = {**held, "metadata": metadata}
        self._note(resource, Change(self.version, gone, None))
        return gone

    def _put(self, resource: str, key: Key, old: Json | None, item: Json) -> Json:
        self.version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        item = orjson.loads(orjson.dumps(item))  # nobody else holds a part of it
        self._objects[resource][key] = item
        self._note(resource, Change(self.version, old, item))
        return item

    def _note(self, resource: str, change: Change) -> None:
        self.history[resource].append(change)
        self._on_change(resource, change)

    def compact(self) -> None:
        """Forget the history: watches that want to go on from an earlier version are refused."""
        self.compacted = self.version
        for changes in self.history.values():
            changes.clear()


def _is_released(metadata: Json) -> bool:
    """ShouldDeleteDuringUpdate: deleted, and no finalizer holds it any more."""
    is_due = metadata.get("deletionTimestamp") and not metadata.get("deletionGracePeriodSeconds")
    return bool(is_due) and not metadata.get("finalizers")


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _changed(resource: str, name: str) -> Exception:
    return refuse(
        HTTPStatus.CONFLICT,
        "Conflict",
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; please apply your '
        "changes to the latest version and try again",
    )
