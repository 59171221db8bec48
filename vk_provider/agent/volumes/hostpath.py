"""hostPath volumes: the type check, on the instance's own file system.

Source: pkg/volume/hostpath/host_path.go (SetUp, checkTypeInternal), pkg/volume/util/hostutil/hostutil.go (getFileType).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from vk_provider.agent.volumes.errors import path_error
from vk_provider.jsontypes import Json
from vk_provider.podmodel.fieldref import quote

_IsMode = Callable[[int], bool]
_EXPECTED: dict[str, tuple[str, _IsMode]] = {
    "DirectoryOrCreate": ("directory", stat.S_ISDIR),
    "Directory": ("directory", stat.S_ISDIR),
    "FileOrCreate": ("file", stat.S_ISREG),
    "File": ("file", stat.S_ISREG),
    "Socket": ("socket file", stat.S_ISSOCK),
    "CharDevice": ("character device", stat.S_ISCHR),
    "BlockDevice": ("block device", stat.S_ISBLK),
}
_FILE_TYPES: tuple[tuple[_IsMode, str], ...] = (
    (stat.S_ISDIR, "Directory"),
    (stat.S_ISREG, "File"),
    (stat.S_ISSOCK, "Socket"),
    (stat.S_ISCHR, "CharDevice"),
    (stat.S_ISBLK, "BlockDevice"),
)
"""hostutil's FileType, which is not the word for the type that was expected."""


def set_up_host_path(source: Json) -> None:
    """Check (and create, if asked) what a hostPath source names; raises ValueError in the kubelet's words."""
    path, kind = validate_host_path(source)
    if not kind:
        return
    if kind in _CREATE and not os.path.exists(path):
        # What was created is not checked, nor is what stands in its way: the mount into the container will fail.
        with contextlib.suppress(FileExistsError):
            _CREATE[kind](path)
        return
    check_type(path, kind, lambda: os.stat(path).st_mode)


def validate_host_path(source: Json) -> tuple[str, str]:
    """(path, type) of a hostPath source; raises ValueError in the kubelet's words."""
    path, kind = source["path"], source.get("type") or ""
    if ".." in path.split("/"):
        raise ValueError(f"invalid HostPath `{path}`: must not contain '..'")
    if kind and kind not in _EXPECTED:
        raise ValueError(f"{kind} is an invalid volume type")
    return path, kind


def check_type(path: str, kind: str, read_mode: Callable[[], int]) -> None:
    """Raise ValueError in the kubelet's words when what `read_mode` (st_mode, OSError) finds is not of the type."""
    expected, matches = _EXPECTED[kind]
    found = _find_type(path, expected, matches, read_mode)
    if found:
        raise ValueError(f"hostPath type check failed: {path} is not a {expected}, it's a {found}")


def _find_type(path: str, expected: str, matches: _IsMode, read_mode: Callable[[], int]) -> str:
    """FileType of a path that is not as expected, "" for one that is; raises ValueError when it has none."""
    try:
        mode = read_mode()
    except FileNotFoundError:
        problem = f"path {quote(path)} does not exist"
    except OSError as error:
        problem = path_error("stat", error)
    else:
        if matches(mode):
            return ""
        for test, name in _FILE_TYPES:
            if test(mode):
                return name
        problem = "only recognise file, directory, socket, block device and character device"
    raise ValueError(f"hostPath type check failed, {path} is not a {expected}, unable to determine its type: {problem}")


def _make_file(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        raise ValueError(path_error("open", error)) from error
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)


def _make_directories(path: str) -> None:
    """As os.MkdirAll of Go, whose error names the first directory that cannot be made."""
    parent = path.rstrip("/").rpartition("/")[0]
    if parent and not os.path.isdir(parent):
        if os.path.exists(parent):
            raise ValueError(path_error("mkdir", NotADirectoryError(errno.ENOTDIR, "", parent)))
        _make_directories(parent)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        raise
    except OSError as error:
        raise ValueError(path_error("mkdir", error)) from error
    os.chmod(path, 0o755)


_CREATE: dict[str, Callable[[str], None]] = {"DirectoryOrCreate": _make_directories, "FileOrCreate": _make_file}
