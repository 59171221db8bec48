"""The launch groups: demands that one request can serve, found by what their pods ask for.

The pods of a group may read the same, too: service account, Secrets, ConfigMaps. Whoever controls an instance that had
one of them, and says after a restart of the provider that it is empty, is sent nothing by that which it has not had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from vk_provider.instances.demand import Demand, Group
from vk_provider.jsontypes import Json
from vk_provider.podmodel.references import find_references
from vk_provider.sizing.selection import Selection

PER_POD_LABELS = frozenset(
    {
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
    }
)
"""Labels that each pod of a controller has for itself: as tags they would make every pod a group of its own."""


class LaunchGroups:
    """Those in which somebody waits, or that a call is under way for. shared_host_paths: by Node name."""

    def __init__(self, shared_host_paths: Mapping[str, tuple[str, ...]]) -> None:
        self._shared_host_paths = shared_host_paths
        self._by_key: dict[Any, Group] = {}
        self._by_digest: dict[str, list[Group]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Group]:
        for known in self._by_digest.values():
            yield from known

    def find(self, demand: Demand, selection: Selection) -> Group:
        """The group of a demand for which `selection` was made."""
        labels = demand.pod["metadata"].get("labels") or {}
        access = find_references(demand.pod).access
        key = (demand.node, demand.namespace, tuple(labels.items()), access, demand.image_store, id(selection))
        group = self._by_key.get(key)
        if group is None:
            group = self._by_key[key] = self._make(demand, selection, access)
            group.keys.append(key)
        return group

    def _make(self, demand: Demand, selection: Selection, access: tuple[Any, ...]) -> Group:
        shared = find_shared_labels(demand.pod)
        paths = self._shared_host_paths.get(demand.node, ())
        asked = repr((demand.node, demand.namespace, shared, access, paths, demand.image_store, selection.asked))
        digest = hashlib.sha256(asked.encode()).hexdigest()[:20]
        known = self._by_digest.setdefault(digest, [])
        for group in known:
            if group.selection is selection:
                return group  # the same but for labels of single pods
        group = Group(demand.node, demand.namespace, shared, selection, paths, digest, demand.image_store)
        known.append(group)
        return group

    def find_waiting(self, digest: str) -> list[Group]:
        """Groups with that digest in which somebody waits."""
        return [group for group in self._by_digest.get(digest, ()) if group.waiting]

    def drop_if_empty(self, group: Group) -> None:
        if group.waiting or group.in_flight or not group.keys:
            return
        for key in group.keys:
            del self._by_key[key]
        group.keys.clear()
        known = self._by_digest[group.digest]
        known.remove(group)
        if not known:
            del self._by_digest[group.digest]


def find_shared_labels(pod: Json) -> dict[str, str]:
    """The labels that a pod has in common with the others of its controller."""
    labels = pod["metadata"].get("labels") or {}
    return {name: value for name, value in sorted(labels.items()) if name not in PER_POD_LABELS}
