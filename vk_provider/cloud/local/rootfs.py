"""An instance's own file system: the host's root below, its own writes above, its own kernel file systems."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from vk_provider.cloud.local import boot, cgroup, syscalls
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


def make_root(spec: BootSpec) -> None:
    """Build the instance's own file system and make it the root. The host's layers are only ever read."""
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    base = spec.path / "rootfs"
    base.mkdir(exist_ok=True)
    syscalls.mount("instance", str(base), "tmpfs", 0, "mode=0755")
    shutil.copytree(spec.layer, base / "upper")
    for name in ("work", "root"):
        (base / name).mkdir(mode=0o755)
    root = base / "root"
    options = f"lowerdir=/,upperdir={base}/upper,workdir={base}/work"
    syscalls.mount("instance", str(root), "overlay", 0, options)
    _mount_kernel(spec, root)
    for name, target in boot.DISK_DIRECTORIES.items():
        syscalls.mount(str(spec.path / "disk" / name), f"{root}{target}", "", syscalls.MS_BIND)
    for path in spec.binds:
        _bind_read_only(path, f"{root}{path}")
    (root / "etc/hostname").write_text(spec.hostname + "\n")
    (root / "etc/hosts").write_text(boot.build_hosts(spec))
    (root / "etc/machine-id").write_text(spec.instance_id.removeprefix("i-").ljust(32, "0") + "\n")
    syscalls.pivot_root(str(root))
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)  # as on a machine: volumes may propagate


def _bind_read_only(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    syscalls.mount(source, target, "", syscalls.MS_BIND)
    syscalls.mount("none", target, "", syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def _mount_kernel(spec: BootSpec, root: Path) -> None:
    """proc, sys, control groups, dev and run, each seeing only this instance."""
    guarded = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", f"{root}/proc", "proc", guarded)
    syscalls.mount("sysfs", f"{root}/sys", "sysfs", guarded)
    _mount_cgroups(spec, f"{root}/sys/fs/cgroup", guarded)
    syscalls.mount("tmpfs", f"{root}/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    (root / "run/lock").mkdir(mode=0o755)
    syscalls.mount("tmpfs", f"{root}/dev", "tmpfs", syscalls.MS_NOSUID, "mode=0755,size=4m")
    for name in ("pts", "shm", "mqueue", "net"):
        (root / "dev" / name).mkdir(mode=0o755)
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    syscalls.mount("devpts", f"{root}/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
    syscalls.mount("shm", f"{root}/dev/shm", "tmpfs", guarded, "mode=1777")
    syscalls.mount("mqueue", f"{root}/dev/mqueue", "mqueue", guarded)
    os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(0o022)
    for link, target in {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1"}.items():
        os.symlink(target, f"{root}/dev/{link}")
    os.symlink("fd/2", f"{root}/dev/stderr")


def _mount_cgroups(spec: BootSpec, target: str, flags: int) -> None:
    hierarchies = spec.instance_cgroup.hierarchies
    if hierarchies[0].unified:
        syscalls.mount("cgroup2", target, "cgroup2", flags)
        cgroup.prepare_nested_v2(Path(target))
        return
    syscalls.mount("tmpfs", target, "tmpfs", flags, "mode=0755")
    for hierarchy in hierarchies:
        name = hierarchy.options.removeprefix("none,name=")
        os.mkdir(f"{target}/{name}")
        syscalls.mount("cgroup", f"{target}/{name}", "cgroup", flags, hierarchy.options)
        for controller in name.split(",") if "," in name else ():
            os.symlink(name, f"{target}/{controller}")
