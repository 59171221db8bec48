"""mount(2) and umount2(2) through libc, and the mount table. Synchronous: the calls return at once or block briefly."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 0x1, 0x2, 0x4, 0x20
MS_BIND, MS_REC = 0x1000, 0x4000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_ESCAPED = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class MountEntry:
    """One line of /proc/self/mountinfo: where it is mounted, and the file system's type."""

    path: str
    fs_type: str


def mount(source: str, target: str, fs_type: str = "", flags: int = 0, options: str = "") -> None:
    """Mount; raises OSError."""
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fs_type.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    if done != 0:
        _raise(target)


def unmount(target: str) -> None:
    """Unmount, lazily when something still uses it; not being a mount point is no error."""
    if _libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOENT):
        return
    if code == errno.EBUSY and _libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW | _MNT_DETACH) == 0:
        return
    _raise(target)


def _raise(target: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), target)


def mount_tmpfs(target: str, size_bytes: int, mode: int = 0o777) -> None:
    """Mount a tmpfs, kept out of swap where the kernel can; size 0 leaves the kernel's default of half the memory."""
    size = f",size={size_bytes}" if size_bytes > 0 else ""
    try:
        mount("tmpfs", target, "tmpfs", options=f"mode={mode:o}{size},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount("tmpfs", target, "tmpfs", options=f"mode={mode:o}{size}")


def list_mounts(below: Path) -> list[MountEntry]:
    """Return the mounts at or below a path, in mount order (a nested one after its parent)."""
    root = str(below)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            head, _, tail = line.partition(" - ")
            path = _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), head.split(" ")[4])
            if path == root or path.startswith(root + "/"):
                found.append(MountEntry(path, tail.split(" ")[0]))
    return found


def unmount_below(root: Path) -> None:
    """Unmount everything at or below a path, newest first; raises OSError when something stays mounted."""
    for entry in reversed(list_mounts(root)):
        unmount(entry.path.removesuffix("//deleted"))
    left = list_mounts(root)
    if left:
        raise OSError(errno.EBUSY, "still mounted", left[0].path)
