"""Mount points inside a volume for other volumes that a container mounts beneath it.

A read-only volume cannot get them later from the container runtime, so they are made when the volume is set up.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import all_containers


def find_nested_mount_points(pod: Json, volume_name: str) -> list[str]:
    """Return relative directories, the outermost ones only: what is deeper is inside another volume."""
    found: dict[str, None] = {}
    for container in all_containers(pod):
        mounts = container.get("volumeMounts") or []
        for own in mounts:
            if own["name"] != volume_name:
                continue
            top = posixpath.normpath(own["mountPath"])
            inside = sorted(
                relative
                for other in mounts
                if other is not own and (relative := _below(top, posixpath.normpath(other["mountPath"])))
            )
            kept: list[str] = []
            for path in inside:
                if not any(path.startswith(outer + "/") for outer in kept):
                    kept.append(path)
            prefix = own.get("subPath") or ""
            if not own.get("subPathExpr"):
                found.update(dict.fromkeys(posixpath.join(prefix, path) for path in kept))
    return list(found)


def make_nested_mount_points(pod: Json, volume_name: str, root: Path) -> None:
    """Create them within the volume at `root`; raises ValueError for a path that leaves it."""
    for relative in find_nested_mount_points(pod, volume_name):
        if ".." in relative.split("/") or relative.startswith(".."):
            raise ValueError(f"invalid container path: {relative}")
        (root / relative).mkdir(parents=True, exist_ok=True, mode=0o755)


def _below(top: str, path: str) -> str:
    prefix = top if top.endswith("/") else top + "/"
    return path[len(prefix) :] if path.startswith(prefix) else ""
