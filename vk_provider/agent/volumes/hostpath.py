"""hostPath volumes: the type check, on the instance's own file system."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vk_provider.jsontypes import Json

_EXPECTED = {
    "DirectoryOrCreate": ("directory", stat.S_ISDIR),
    "Directory": ("directory", stat.S_ISDIR),
    "FileOrCreate": ("file", stat.S_ISREG),
    "File": ("file", stat.S_ISREG),
    "Socket": ("socket file", stat.S_ISSOCK),
    "CharDevice": ("character device", stat.S_ISCHR),
    "BlockDevice": ("block device", stat.S_ISBLK),
}
_NAMES = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISREG, "file"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


def set_up_host_path(source: Json) -> None:
    """Check (and create, if asked) what a hostPath source names; raises ValueError in the kubelet's words."""
    path, kind = source["path"], source.get("type") or ""
    if ".." in path.split("/"):
        raise ValueError(f"invalid HostPath `{path}`: must not contain '..'")
    if not kind:
        return
    if kind not in _EXPECTED:
        raise ValueError(f"{kind} is an invalid volume type")
    if not os.path.exists(path):
        if kind == "DirectoryOrCreate":
            Path(path).mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)
        elif kind == "FileOrCreate":
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
            os.chmod(path, 0o644)
    _check(path, *_EXPECTED[kind])


def _check(path: str, expected: str, matches: object) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ValueError(
            f"hostPath type check failed, {path} is not a {expected}, unable to determine its type: {error.strerror}"
        ) from error
    if callable(matches) and not matches(mode):
        found = next((name for test, name in _NAMES if test(mode)), "unknown")
        raise ValueError(f"hostPath type check failed: {path} is not a {expected}, it's a {found}")
