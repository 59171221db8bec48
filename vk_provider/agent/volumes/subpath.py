"""subPath mounts that a container cannot talk into leaving its volume.

A path inside a volume is untrusted: a container may swap a directory for a link at any time. So the path is resolved
once, checked to be inside, opened part by part without following links, and what was opened is bind-mounted through
/proc/self/fd; that mount is what the container gets.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vk_provider.agent.volumes import mountpoint

_OPEN_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def validate_sub_path(sub_path: str) -> None:
    """Raise ValueError in the kubelet's words for an absolute path or one with `..`."""
    if sub_path.startswith("/"):
        raise ValueError(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise ValueError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")


def make_sub_path(volume: Path, sub_path: str, mode: int | None = None) -> None:
    """Create the missing directories of a subPath with `mode`, the volume's own for None; raises OSError or
    ValueError. Where nobody can say whether it is there (it is below a file), nothing is made: binding it will fail.
    """
    base = os.path.realpath(volume)
    wanted = os.path.join(base, os.path.normpath(sub_path))
    try:
        os.stat(wanted)
    except FileNotFoundError:
        pass
    except OSError:
        return
    else:
        return
    existing, missing = wanted, list[str]()
    while not os.path.lexists(existing):
        existing, name = os.path.split(existing)
        missing.insert(0, name)
    if mode is None:
        mode = stat.S_IMODE(os.stat(base).st_mode)
    with open_inside(base, os.path.realpath(existing)) as start:
        descriptor = os.dup(start)
        try:
            for name in missing:
                made = _make_directory(name, mode, descriptor)
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
                if made:
                    os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def bind_sub_path(volume: Path, sub_path: str, target: Path) -> None:
    """Bind-mount what is at a subPath to `target` (made as file or directory); idempotent.

    Raises OSError, ValueError when the path leads out of the volume.
    """
    base = os.path.realpath(volume)
    with open_inside(base, os.path.realpath(os.path.join(base, sub_path))) as descriptor:
        found = os.fstat(descriptor)
        if _is_bound(target, found):
            return
        bind_opened(descriptor, target)


def bind_opened(descriptor: int, target: Path) -> None:
    """Bind-mount what was opened, whatever its path leads to meanwhile, to `target` (made as file or directory)."""
    _make_target(target, stat.S_ISDIR(os.fstat(descriptor).st_mode))
    mountpoint.mount(f"/proc/self/fd/{descriptor}", str(target), flags=mountpoint.MS_BIND | mountpoint.MS_REC)


def read_inside(volume: Path, relative: str) -> str:
    """Return the text of a file in a volume, never of one outside; raises OSError or ValueError."""
    validate_sub_path(relative)
    base = os.path.realpath(volume)
    with (
        open_inside(base, os.path.realpath(os.path.join(base, relative))) as descriptor,
        open(f"/proc/self/fd/{descriptor}", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        return stream.read()


@contextlib.contextmanager
def open_inside(base: str, path: str) -> Iterator[int]:
    """Open `path` (O_PATH), which must be inside `base`; a link on the way, swapped in since, is refused."""
    if path != base and not path.startswith(base + "/"):
        raise ValueError("path is outside of its volume")
    descriptor = os.open(base, _OPEN_FLAGS)
    try:
        for name in [part for part in path[len(base) :].split("/") if part]:
            child = os.open(name, _OPEN_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = child
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise ValueError("unexpected symlink in path")
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(name: str, mode: int, parent: int) -> bool:
    """False when somebody else has made it meanwhile (or something else: it is opened as a directory afterwards)."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _is_bound(target: Path, found: os.stat_result) -> bool:
    if not any(entry.path == str(target) for entry in mountpoint.list_mounts(target)):
        return False
    mounted = target.stat()
    if (mounted.st_dev, mounted.st_ino) == (found.st_dev, found.st_ino):
        return True
    mountpoint.unmount(str(target))
    return False


def _make_target(target: Path, directory: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if directory:
        target.mkdir(exist_ok=True, mode=0o750)
    else:
        target.touch(mode=0o640)
