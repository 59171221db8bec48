"""Strategic-merge and JSON-merge patches as the API server applies them. Pure.

Source: k8s.io/apimachinery/pkg/util/strategicpatch/patch.go; the keys are the patchMergeKey tags of k8s.io/api.
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json

MERGE_KEYS: dict[tuple[str, ...], str] = {
    ("status", "conditions"): "type",
    ("status", "podIPs"): "ip",
    ("status", "hostIPs"): "ip",
    ("status", "addresses"): "type",
    ("metadata", "ownerReferences"): "uid",
    ("spec", "containers"): "name",
    ("spec", "volumes"): "name",
}
"""Lists that are merged by a key; all others are replaced as a whole."""


def merge_strategic(target: Any, patch: Any, path: tuple[str, ...] = ()) -> Any:
    """A new value; neither argument is changed."""
    if isinstance(patch, dict):
        return _merge_map(target if isinstance(target, dict) else {}, patch, path)
    if isinstance(patch, list):
        key = MERGE_KEYS.get(path)
        if key is not None:
            return _merge_list(target if isinstance(target, list) else [], patch, key, path)
    return patch


def _merge_map(target: Json, patch: Json, path: tuple[str, ...]) -> Json:
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    merged = dict(target)
    for name, value in patch.items():
        if name.startswith(("$patch", "$setElementOrder", "$retainKeys")):
            continue
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_strategic(merged.get(name), value, (*path, name))
    return merged


def _merge_list(target: list[Json], patch: list[Json], key: str, path: tuple[str, ...]) -> list[Json]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [_merge_map({}, item, path) for item in patch if "$patch" not in item]
    merged = {item[key]: item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = _merge_map(merged.get(item[key], {}), item, path)
    return list(merged.values())


def merge_json(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_json(merged.get(name), value)
    return merged
