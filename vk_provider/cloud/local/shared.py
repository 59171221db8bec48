"""What the instances of one Node share: directories in a file system of the Node, of a fixed size.

    <state>/shared/<Node>/image       the file system
    <state>/shared/<Node>/mount/<n>   one directory for each path, mounted into the instances by stage.py

An image of its own bounds bytes and files, and whatever pods put there is gone with one unlink. It is mounted without
devices and set-user-ID programs, flags that no user namespace can take off again. Only root enters the state directory,
and nothing on this machine follows a path into what pods have written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vk_provider.cloud.base import TAG_NODE, TAG_OWNER, LaunchRequest
from vk_provider.cloud.local import syscalls
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceRecord
from vk_provider.errors import CloudError, CloudRequestError
from vk_provider.podmodel.sharedpath import find_problem

SharedDirectory = tuple[str, str]
"""(directory on this machine, path in the instance)."""
_PROGRAMS = {"mkfs.ext4": "e2fsprogs", "mount": "mount"}
_OPTIONS = "loop,nosuid,nodev,noatime"


def check_shared(request: LaunchRequest) -> None:
    """Raise CloudRequestError for paths that instances cannot share."""
    problem = find_problem(request.shared_host_paths)
    if request.shared_host_paths and not request.tags.get(TAG_NODE):
        problem = f"no tag {TAG_NODE} says with whom they are shared"
    if problem:
        raise CloudRequestError(f"Unsupported: shared host paths: {problem}")


def share_directories(config: LocalCloudConfig, record: InstanceRecord) -> tuple[SharedDirectory, ...]:
    """Make and mount what the instance shares with the others of its Node (blocking); () when it shares nothing.
    Raises CloudError."""
    if not record.shared_host_paths:
        return ()
    node = config.shared_dir / _short_name(record.tags.get(TAG_OWNER, ""), record.tags.get(TAG_NODE, ""))
    try:
        for directory in (config.shared_dir, node):
            directory.mkdir(exist_ok=True, mode=0o700)
        with _locked(node):
            _mount(node, config.shared_bytes)
            return tuple((_make(node / "mount" / _short_name(path)), path) for path in record.shared_host_paths)
    except (CommandError, OSError) as error:
        raise CloudError(f"local cloud: the shared directories of the Node cannot be made: {error}") from None


def remove_shared(config: LocalCloudConfig) -> None:
    """Unmount and remove the shared directories of all Nodes (blocking). Raises OSError when one is still used."""
    for node in _list(config.shared_dir):
        with _locked(node):
            mount = node / "mount"
            while os.path.ismount(mount):
                try:
                    syscalls.unmount(str(mount))
                except OSError:
                    syscalls.unmount(str(mount), syscalls.MNT_DETACH)
            if mount.exists():
                mount.rmdir()  # never what is in it: that would be followed into a file system of pods
            (node / "image").unlink(missing_ok=True)
        shutil.rmtree(node)


def _list(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.exists() else []


def _short_name(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def _locked(node: Path) -> Iterator[None]:
    """Launches of several processes and threads mount once."""
    descriptor = os.open(node / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _mount(node: Path, size_bytes: int) -> None:
    """Mount the image, after a restart of the machine again; make it first where there is none."""
    image, mount = node / "image", node / "mount"
    if os.path.ismount(mount):
        return
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise CloudError(f"local cloud: {program} is not on PATH; install the package {package}")
    mount.mkdir(exist_ok=True, mode=0o700)
    if not image.exists():
        building = node / "image.new"
        with open(building, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            # Reserved: on a full disk, writes of pods would fail below the file system, which then turns read-only.
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        run_command(["mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", "-E", "nodiscard", str(building)])
        building.rename(image)
    run_command(["mount", "-t", "ext4", "-o", _OPTIONS, str(image), str(mount)])


def _make(path: Path) -> str:
    if not path.is_dir():
        path.mkdir(mode=0o755)
    return str(path)
