"""Equal parts of many API objects, in memory once: the pods of one template say the same, each decoded for itself.

Pure. What is shared is never changed in place, here as everywhere: objects are replaced.
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json, share_text, to_text
from vk_provider.podmodel.spec import STATUS_LISTS

MAX_STRING = 128
"""Longer ones are rarely said twice."""
MAX_TEXT = 4096
PARTS = 2048
_METADATA = ("namespace", "labels", "annotations", "ownerReferences")


class OneCopy:
    """Remembers the parts that were used last; strings as long as somebody has them."""

    def __init__(self, parts: int = PARTS) -> None:
        self._limit = parts
        self._known: dict[bytes, Any] = {}

    def share(self, pod: Json, before: Json | None = None) -> None:
        """Replace parts of `pod`, a new object, by equal ones. before: the same pod's last object."""
        metadata, earlier = pod["metadata"], (before or {}).get("metadata") or {}
        for name in _METADATA:
            value = metadata.get(name)
            if value:
                last = earlier.get(name)
                metadata[name] = last if last == value else self._find(value)
        spec, known = pod.get("spec"), (before or {}).get("spec")
        if not spec:
            return
        if spec == known:
            pod["spec"] = known
            return
        for field in STATUS_LISTS.values():
            for container in spec.get(field) or ():
                self._share_fields(container)
        self._share_fields(spec)

    def _share_fields(self, part: Json) -> None:
        for name, value in part.items():
            part[name] = self._find(value)

    def _find(self, value: Any) -> Any:
        if type(value) is str:
            return share_text(value) if len(value) <= MAX_STRING else value
        if not value or not isinstance(value, dict | list):
            return value
        text = to_text(value)
        if len(text) > MAX_TEXT:
            return value
        found = self._known[text] = self._known.pop(text, value)
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
        return found


def share_strings(part: Any) -> Any:
    """`part` with equal strings in memory once, changed in place: times, names and reasons are said again and again."""
    if type(part) is str:
        return share_text(part) if len(part) <= MAX_STRING else part
    if isinstance(part, dict):
        for name, value in part.items():
            part[name] = share_strings(value)
    elif isinstance(part, list):
        part[:] = map(share_strings, part)
    return part
