"""How much of its storage a volume uses, as /stats/summary wants it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True)
class VolumeUsage:
    """Bytes and inodes. capacity, available and free are those of the file system that holds the volume."""

    used_bytes: int
    capacity_bytes: int
    available_bytes: int
    inodes_used: int
    inodes: int
    inodes_free: int


def measure_file_system(path: str) -> VolumeUsage:
    """Measure a volume that is a file system of its own (tmpfs): cheap."""
    found = os.statvfs(path)
    return VolumeUsage(
        used_bytes=(found.f_blocks - found.f_bfree) * found.f_frsize,
        capacity_bytes=found.f_blocks * found.f_frsize,
        available_bytes=found.f_bavail * found.f_frsize,
        inodes_used=found.f_files - found.f_ffree,
        inodes=found.f_files,
        inodes_free=found.f_ffree,
    )


def measure_directory(path: str) -> VolumeUsage:
    """Measure a directory by walking it, without leaving its file system; hard links count once."""
    whole = measure_file_system(path)
    used_bytes, inodes = _walk(path)
    return VolumeUsage(used_bytes, whole.capacity_bytes, whole.available_bytes, inodes, whole.inodes, whole.inodes_free)


def _walk(root: str) -> tuple[int, int]:
    top = os.lstat(root)
    seen: set[int] = set()
    used_bytes, inodes = top.st_blocks * 512, 1
    pending = [root]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if found.st_dev != top.st_dev or found.st_ino in seen:
                continue
            if found.st_nlink > 1:
                seen.add(found.st_ino)
            used_bytes, inodes = used_bytes + found.st_blocks * 512, inodes + 1
            if stat.S_ISDIR(found.st_mode):
                pending.append(entry.path)
    return used_bytes, inodes
