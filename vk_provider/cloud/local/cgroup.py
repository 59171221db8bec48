"""The instance's control group: CPU and memory of its type, in cgroup v1, hybrid and v2 layouts."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vk_provider.errors import BadStartError

CPU_PERIOD_US = 100_000
_BUSY_S = 5.0
_NEEDED = {"cpu", "memory", "pids"}
_DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup file system.

    options: mount options that mount the same hierarchy again; "" for the unified one (v2)
    """

    path: str
    options: str
    unified: bool

    @property
    def controllers(self) -> frozenset[str]:
        return frozenset(self.options.split(","))


def parse_hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Read /proc/self/mountinfo (proc(5)). In a hybrid layout the v2 mount without resource controllers is left out."""
    legacy: list[Hierarchy] = []
    unified: list[Hierarchy] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        path = left.split()[4]
        kind, _, super_options = right.split()[:3]
        if kind == "cgroup2":
            unified.append(Hierarchy(path, "", True))
        elif kind == "cgroup":
            names = [
                o for o in super_options.split(",") if o not in ("rw", "ro", "xattr", "clone_children", "noprefix")
            ]
            names = [o for o in names if not o.startswith("release_agent=")]
            if any(o.startswith("name=") for o in names):
                names = ["none", *names]
            legacy.append(Hierarchy(path, ",".join(names), False))
    return _unique(legacy) if legacy else _unique(unified)[:1]


def _unique(hierarchies: Iterable[Hierarchy]) -> list[Hierarchy]:
    seen: dict[str, Hierarchy] = {}
    for hierarchy in hierarchies:
        seen.setdefault(hierarchy.options, hierarchy)
    return list(seen.values())


def find_hierarchies() -> list[Hierarchy]:
    """The hierarchies of this machine; BadStartError when CPU or memory cannot be limited."""
    hierarchies = parse_hierarchies(Path("/proc/self/mountinfo").read_text())
    if hierarchies and hierarchies[0].unified:
        available = set(Path(hierarchies[0].path, "cgroup.controllers").read_text().split())
    else:
        available = set().union(*(h.controllers for h in hierarchies)) if hierarchies else set()
    if not available >= _NEEDED:
        missing = ", ".join(sorted(_NEEDED - available))
        raise BadStartError(f"local cloud: no cgroup controller for {missing} under /sys/fs/cgroup")
    return hierarchies


@dataclass(frozen=True, slots=True)
class InstanceCgroup:
    """The group of one instance in every hierarchy; `name` is relative, such as vk-default/i-0123."""

    hierarchies: tuple[Hierarchy, ...]
    name: str

    def paths(self) -> list[Path]:
        return [Path(h.path) / self.name for h in self.hierarchies]

    def create(self, memory_bytes: int) -> None:
        """Make the groups and limit memory. The CPU quota comes later, see `limit_cpu`."""
        for hierarchy, path in zip(self.hierarchies, self.paths(), strict=True):
            if hierarchy.unified:
                _delegate(Path(hierarchy.path), path)
                (path / "memory.max").write_text(str(memory_bytes))
                _write(path / "memory.swap.max", "0")  # like a cloud's instance, it has no swap
                continue
            path.mkdir(parents=True, exist_ok=True)
            if "cpuset" in hierarchy.controllers:
                _copy_cpuset(path.parent)
                _copy_cpuset(path)
            if "memory" in hierarchy.controllers:
                _write(path / "memory.use_hierarchy", "1")
                (path / "memory.limit_in_bytes").write_text(str(memory_bytes))
                _write(path / "memory.memsw.limit_in_bytes", str(memory_bytes))
            if "cpu" in hierarchy.controllers:
                (path / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))

    def delegate(self, owner: int) -> None:
        """Let `owner` (a user and group ID) make groups below and move its processes there. The limits of the group
        itself stay root's (cgroups(7), "Delegating a hierarchy to a less privileged user")."""
        for path in self.paths():
            for file in (path, *(path / name for name in _DELEGATED)):
                if file.exists():
                    os.chown(file, owner, owner)

    def open_cpu_limit(self) -> int:
        """A descriptor of the group's CPU quota (close it). To be opened by root of the machine before the process has
        namespaces of its own: from within an instance its own limit cannot be written, and the kernel asks who opened
        the file."""
        for hierarchy, path in zip(self.hierarchies, self.paths(), strict=True):
            if hierarchy.unified:
                return os.open(path / "cpu.max", os.O_WRONLY | os.O_CLOEXEC)
            if "cpu" in hierarchy.controllers:
                return os.open(path / "cpu.cfs_quota_us", os.O_WRONLY | os.O_CLOEXEC)
        raise OSError("no control group for CPU")

    def write_cpu_limit(self, descriptor: int, cpu_milli: int, mounted: Path | None = None) -> None:
        """Give the group its CPU quota through what `open_cpu_limit` returned. `mounted`: where its namespace has the
        hierarchies, None while there is no group below. Raises OSError."""
        quota_us = _quota_us(cpu_milli)
        for hierarchy in self.hierarchies:
            if hierarchy.unified:
                os.pwrite(descriptor, f"{quota_us} {CPU_PERIOD_US}".encode(), 0)
                return
            if "cpu" in hierarchy.controllers:
                if mounted is not None:
                    _clamp_below(mounted / hierarchy.options, quota_us / CPU_PERIOD_US)
                os.pwrite(descriptor, str(quota_us).encode(), 0)
                return

    def join(self) -> None:
        """Put the calling process into the groups."""
        for path in self.paths():
            (path / "cgroup.procs").write_text("0")

    def processes(self) -> list[int]:
        """Pids within the instance, seen from the host."""
        for hierarchy, path in zip(self.hierarchies, self.paths(), strict=True):
            if hierarchy.unified or "pids" in hierarchy.controllers:
                # 0 is a process that this PID namespace does not show; as an argument of kill(2) it would be us
                return [pid for file in path.rglob("cgroup.procs") for pid in _read_pids(file) if pid]
        return []

    def kill(self) -> None:
        """SIGKILL every process in the group and below."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self, timeout_s: float = 5.0) -> bool:
        """Remove the groups with everything below (blocking). The kernel needs a moment after the last process."""
        deadline = time.monotonic() + timeout_s
        left = [path for path in self.paths() if path.exists()]
        while left:
            left = [path for path in left if not _remove_tree(path)]
            if left and time.monotonic() > deadline:
                return False
            if left:
                time.sleep(0.02)
        return True

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "hierarchies": [asdict(h) for h in self.hierarchies]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> InstanceCgroup:
        return cls(tuple(Hierarchy(**h) for h in document["hierarchies"]), document["name"])


def _quota_us(cpu_milli: int) -> int:
    return max(1000, cpu_milli * CPU_PERIOD_US // 1000)


def _clamp_below(group: Path, cpus: float) -> None:
    """cgroup v1 refuses a quota while a group below has more of its own (EINVAL): lower those, the deepest first."""
    below = [path for path in group.rglob("cpu.cfs_quota_us") if path.parent != group]
    for path in sorted(below, key=lambda item: len(item.parts), reverse=True):
        try:
            quota_us, period_us = int(path.read_text()), int((path.parent / "cpu.cfs_period_us").read_text())
            if quota_us > cpus * period_us:
                path.write_text(str(max(1000, int(cpus * period_us))))
        except FileNotFoundError:
            continue


def prepare_nested_v2(root: Path) -> None:
    """Within an instance on cgroup v2: move its first process into a leaf, so that the root may have children with
    controllers (the "no internal processes" rule, cgroups(7)). Raises OSError."""
    leaf = root / "init"
    leaf.mkdir(exist_ok=True)
    deadline = time.monotonic() + _BUSY_S
    while True:
        for pid in _read_pids(root / "cgroup.procs"):
            _write(leaf / "cgroup.procs", str(pid))
        try:
            _enable(root)
            return
        except OSError as error:
            # The process that started the first one is in the group, too, and may need a moment to end.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _delegate(root: Path, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for parent in (root, path.parent):
        try:
            _enable(parent)
        except OSError as error:
            raise BadStartError(f"local cloud: cannot delegate cgroup controllers in {parent}: {error}") from None


def _enable(path: Path) -> None:
    available = (path / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in available)
    (path / "cgroup.subtree_control").write_text(wanted)


def _copy_cpuset(path: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (path / name).read_text().strip():
            (path / name).write_text((path.parent / name).read_text())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:
        pass  # refused when it is set already, or removed in a newer kernel


def _read_pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text().split()]
    except OSError:
        return []


def _remove_tree(path: Path) -> bool:
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
