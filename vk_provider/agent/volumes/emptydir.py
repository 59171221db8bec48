"""emptyDir volumes: a directory, or a tmpfs for medium Memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

from vk_provider.agent.volumes import mountpoint
from vk_provider.agent.volumes.ownership import apply_fs_group
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.resources import effective_bytes
from vk_provider.podmodel.security import PodSecurity


def compute_memory_size(source: Json, pod: Json, context: PodContext) -> int:
    """Return the tmpfs size in bytes: the least of sizeLimit, the pod's memory limit and the Node's allocatable."""
    candidates = [
        math.ceil(parse_quantity(context.node["allocatable"].get("memory") or 0)),
        effective_bytes(pod, "limits", "memory"),
        math.ceil(parse_quantity(source.get("sizeLimit") or 0)),
    ]
    return min((size for size in candidates if size > 0), default=0)


def set_up_empty_dir(
    source: Json, directory: Path, marker: Path, mounted: bool, size_bytes: int, security: PodSecurity
) -> None:
    """Make the volume once; when its marker is there its content belongs to the containers and stays as it is."""
    in_memory = source.get("medium") == "Memory"
    if marker.exists() and directory.is_dir() and (mounted or not in_memory):
        return
    directory.mkdir(parents=True, exist_ok=True)
    if in_memory and not mounted:
        # As the kernel makes a tmpfs; directories of a subPath in it inherit the sticky bit as on a kubelet.
        mountpoint.mount_tmpfs(str(directory), size_bytes, mode=0o1777)
    if source.get("mode") is not None:
        os.chmod(directory, int(source["mode"]) & 0o1777)
    elif not in_memory:
        os.chmod(directory, 0o777)
    apply_fs_group(directory, security.fs_group, read_only=False, policy=security.fs_group_change_policy)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
