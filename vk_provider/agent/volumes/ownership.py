"""fsGroup: group ownership and mode bits of a volume's files.

Source: "Configure volume permission and ownership change policy for Pods", kubelet volume ownership.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_READ_WRITE, _READ_ONLY, _ENTER = 0o660, 0o440, 0o110


def apply_fs_group(root: Path, fs_group: int | None, read_only: bool, policy: str = "Always") -> None:
    """Give everything at and below `root` to the group, readable (and writable) by it; directories get setgid.

    policy: "OnRootMismatch" skips the walk when the root directory already is as it should be
    """
    if fs_group is None or (policy == "OnRootMismatch" and _root_matches(root, fs_group, read_only)):
        return
    for directory, names, files in os.walk(root, topdown=False):
        for name in files:
            _change(os.path.join(directory, name), fs_group, read_only)
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                _change(path, fs_group, read_only)
        _change(directory, fs_group, read_only)


def _change(path: str, group: int, read_only: bool) -> None:
    try:
        os.lchown(path, -1, group)
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode):
            os.chmod(path, stat.S_IMODE(mode) | _bits(stat.S_ISDIR(mode), read_only))
    except FileNotFoundError:
        pass  # a container that already runs removed it meanwhile


def _bits(directory: bool, read_only: bool) -> int:
    bits = _READ_ONLY if read_only else _READ_WRITE
    return bits | stat.S_ISGID | _ENTER if directory else bits


def _root_matches(root: Path, group: int, read_only: bool) -> bool:
    found = root.stat()
    needed = _bits(True, read_only)
    return found.st_gid == group and stat.S_ISDIR(found.st_mode) and found.st_mode & needed == needed
