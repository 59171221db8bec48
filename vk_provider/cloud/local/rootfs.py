"""An instance's own root, made by its first process: the staged parts, its own writes above them, its own kernel file
systems. Runs as root of the instance's user namespace, which has no rights on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vk_provider.cloud.local import boot, cgroup, syscalls
from vk_provider.cloud.local.boot import BootSpec


def make_root(spec: BootSpec) -> None:
    """Build the root over what stage.py has mounted, and make it this process's. The current directory is the stage:
    the way to it leads through directories that only the machine's root may enter."""
    top, root = Path("top"), Path("root")
    syscalls.mount("instance", str(top), "tmpfs", 0, "mode=0755")
    for name in ("upper", "work", "containerd"):
        (top / name).mkdir(mode=0o711)
    (top / "upper").chmod(0o755)
    options = f"lowerdir=layer,upperdir={top}/upper,workdir={top}/work,userxattr"
    syscalls.mount("instance", str(root), "overlay", 0, options)
    _mount_kernel(spec, root, Path("dev"))
    _make_containerd_root(top / "containerd", root)
    for number, (_, path) in enumerate(spec.shared):
        syscalls.mount(f"shared/{number}", _make_inside(root, path), "", syscalls.MS_BIND)
    for path in spec.binds:
        if not any(path.startswith(other + "/") for other in spec.binds):
            _show(f"software{path}", Path(f"{root}{path}"))
    (root / "etc/hostname").write_text(spec.hostname + "\n")
    (root / "etc/hosts").write_text(boot.build_hosts(spec))
    (root / "etc/machine-id").write_text(spec.instance_id.removeprefix("i-").ljust(32, "0") + "\n")
    syscalls.pivot_root(str(root))
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)  # as on a machine: volumes may propagate


def _make_containerd_root(held: Path, root: Path) -> None:
    """containerd's root is in memory (`held`) but for what may be large: it is of no use after the instance, as what is
    in /run, and containerd syncs its databases some dozen times while a pod starts. Content is an overlay: what the
    prepared images have is never copied."""
    for path in Path("images/db").glob("*/*.db"):
        (held / path.parent.name).mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(path, held / path.parent.name / path.name)
        (held / path.parent.name / path.name).chmod(0o600)
    syscalls.mount(str(held), f"{root}{boot.CONTAINERD_ROOT}", "", syscalls.MS_BIND)
    for name, target in (boot.KEPT_DIRECTORIES | boot.DISK_DIRECTORIES).items():
        if os.path.isdir(f"disk/{name}"):
            Path(f"{root}{target}").mkdir(mode=0o700, parents=True, exist_ok=True)
            syscalls.mount(f"disk/{name}", f"{root}{target}", "", syscalls.MS_BIND)
    content = Path(f"{root}{boot.CONTAINERD_ROOT}/{boot.CONTENT}")
    content.mkdir(mode=0o755)
    lower, disk = f"images/tree/{boot.CONTENT}", "disk/containerd"
    options = f"lowerdir={lower},upperdir={disk}/{boot.CONTENT},workdir={disk}/work,userxattr"
    syscalls.mount("content", str(content), "overlay", 0, options)
    Path(f"{root}{boot.PREPARED}").mkdir(mode=0o700)
    syscalls.mount(f"images/tree/{boot.SNAPSHOTS}", f"{root}{boot.PREPARED}", "", syscalls.MS_BIND)


def _make_inside(root: Path, path: str) -> str:
    """Make the directories of `path` in the new root. Through a link they could be elsewhere. Raises OSError."""
    target = root
    for name in path.strip("/").split("/"):
        target /= name
        if target.is_symlink():
            raise OSError(f"{path} leads through a link")
        target.mkdir(mode=0o755, exist_ok=True)
    return str(target)


def _show(source: str, target: Path) -> None:
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    syscalls.mount(source, str(target), "", syscalls.MS_BIND | syscalls.MS_REC)


def _mount_kernel(spec: BootSpec, root: Path, devices: Path) -> None:
    """proc, sys, control groups, dev and run, each seeing only this instance."""
    guarded = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", f"{root}/proc", "proc", guarded)
    syscalls.mount("sysfs", f"{root}/sys", "sysfs", guarded)
    _mount_cgroups(spec, f"{root}/sys/fs/cgroup", guarded)
    syscalls.mount("tmpfs", f"{root}/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    (root / "run/lock").mkdir(mode=0o755)
    syscalls.mount(str(devices), f"{root}/dev", "", syscalls.MS_BIND)
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    syscalls.mount("devpts", f"{root}/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
    syscalls.mount("shm", f"{root}/dev/shm", "tmpfs", guarded, "mode=1777")
    syscalls.mount("mqueue", f"{root}/dev/mqueue", "mqueue", guarded)
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
