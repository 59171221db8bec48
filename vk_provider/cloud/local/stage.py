"""Mounts what an instance may see of this machine's disk, before its process gives up its rights over the machine.

Runs as root of the machine in a mount namespace of its own. When the process then joins the instance's user
namespace and makes its mount namespace, the kernel locks these mounts: no process inside can unmount or move
them, or make read-only ones writable (mount_namespaces(7), "Restrictions on mount namespaces").

    STAGE/software/...      the machine's programs, read-only, where they are on the machine
    STAGE/layer             the lower layer of the instance's root, read-only
    STAGE/disk              the instance's own directories
    STAGE/images            the prepared images (tree and db, see images.py), read-only, without devices
    STAGE/shared/N          directories that the instances of the Node share, without devices and set-user-ID programs
    STAGE/dev               device files, which cannot be created inside
    STAGE/top, STAGE/root   empty, for the instance's root, see rootfs.py
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vk_provider.cloud.local import syscalls
from vk_provider.cloud.local.boot import BootSpec

_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "fuse": (10, 229),
    "net/tun": (10, 200),
}
_DEVICE_DIRECTORIES = ("net", "pts", "shm", "mqueue")


def build_stage(spec: BootSpec, user_namespace: int, root_id: int) -> None:
    """Mount all of it; `root_id` is what root of `user_namespace` (a descriptor) is on this machine. The stage is
    the current directory afterwards. Raises OSError."""
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    stage = spec.path / "disk"
    disk = syscalls.open_tree(str(stage))  # before the stage covers it
    syscalls.mount("stage", str(stage), "tmpfs", 0, "mode=0755")
    for name in ("software", "layer", "disk", "images", "shared", "dev", "top", "root"):
        (stage / name).mkdir(mode=0o755)
    for path in spec.binds:
        _show(path, Path(f"{stage}/software{path}"), user_namespace)
        for hidden in spec.hidden:
            if hidden.startswith(path + "/") and os.path.isdir(hidden):
                syscalls.mount("hidden", f"{stage}/software{hidden}", "tmpfs", 0, "mode=0755,size=1m")
    _bind(spec.layer, stage / "layer", user_namespace, read_only=True)
    _attach(disk, stage / "disk", user_namespace, read_only=False)
    _bind(str(Path(spec.images).parent), stage / "images", user_namespace, read_only=True, devices=False)
    for number, (source, _) in enumerate(spec.shared):
        (stage / "shared" / str(number)).mkdir()
        _bind(source, stage / "shared" / str(number), user_namespace, read_only=False)
    _make_devices(stage / "dev", root_id)
    os.chdir(stage)


def _show(source: str, target: Path, user_namespace: int) -> None:
    """The machine's software, read-only. A file system that cannot translate IDs shows other owners; world-readable
    files can be read."""
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    try:
        _bind(source, target, user_namespace, read_only=True)
    except OSError:
        _bind(source, target, None, read_only=True)


def _bind(source: str, target: Path, user_namespace: int | None, *, read_only: bool, devices: bool = True) -> None:
    _attach(syscalls.open_tree(source), target, user_namespace, read_only=read_only, devices=devices)


def _attach(tree: int, target: Path, user_namespace: int | None, *, read_only: bool, devices: bool = True) -> None:
    """`tree`: from open_tree; it is closed."""
    try:
        syscalls.set_mount(tree, read_only=read_only, devices=devices, user_namespace=user_namespace)
        syscalls.attach(tree, str(target))
    finally:
        os.close(tree)


def _make_devices(path: Path, root_id: int) -> None:
    owner = f"uid={root_id},gid={root_id}"
    syscalls.mount("tmpfs", str(path), "tmpfs", syscalls.MS_NOSUID, f"mode=0755,size=4m,{owner}")
    for name in _DEVICE_DIRECTORIES:
        (path / name).mkdir(mode=0o755)
    old = os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(path / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(old)
    for name in (*_DEVICE_DIRECTORIES, *_DEVICES):
        os.chown(path / name, root_id, root_id)
