"""Reads CPU, memory, process and I/O figures of cgroups, v1 and v2 alike.

Paths are those this process sees: on an instance with its own cgroup namespace the root is the instance's cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USER_HZ = os.sysconf("SC_CLK_TCK")
UNLIMITED = 1 << 60
MAX_DEPTH = 6


@dataclass(frozen=True, slots=True)
class CpuFigures:
    """None: not reported by this kernel."""

    total_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    shares: int | None = None
    quota_us: int | None = None
    period_us: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """In bytes, but for counts of faults, failures and kills. None: not reported by this kernel."""

    usage: int = 0
    max_usage: int | None = None
    limit: int | None = None
    failures: int = 0
    inactive_file: int = 0
    rss: int = 0
    cache: int = 0
    mapped_file: int = 0
    swap: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class CgroupFigures:
    """What one cgroup used."""

    cpu: CpuFigures = CpuFigures()
    memory: MemoryFigures = MemoryFigures()
    threads: int = 0
    pids: tuple[int, ...] = ()
    read_bytes: int = 0
    write_bytes: int = 0

    @property
    def working_set(self) -> int:
        """Memory that cannot be reclaimed easily (cAdvisor's definition), at least one page while a process runs:
        metrics-server takes a zero for a faulty sample and drops the whole pod."""
        return max(self.memory.usage - self.memory.inactive_file, 4096 if self.pids else 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")  # a mount point's name may be any bytes
    except OSError:
        return ""


def _read_int(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _read_table(path: Path) -> dict[str, int]:
    """Lines `name value`."""
    table = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            table[name] = int(value)
    return table


def find_mounts(mountinfo: str) -> dict[str, Path]:
    """Controller -> mount point of cgroup v1 hierarchies; "" -> the cgroup v2 one. From /proc/self/mountinfo."""
    mounts: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        point = Path(left.split(" ")[4])
        if kind == "cgroup2":
            mounts.setdefault("", point)
        elif kind == "cgroup":
            for option in options.split(","):
                mounts.setdefault(option, point)
    return mounts


class CgroupReader:
    """Finds containers' cgroups by ID, once, and reads them."""

    def __init__(self, mounts: dict[str, Path] | None = None) -> None:
        self._mounts = find_mounts(_read(Path("/proc/self/mountinfo"))) if mounts is None else mounts
        # In the hybrid layout the v2 hierarchy exists too, but without the memory controller.
        self._unified = "memory" not in self._mounts
        self._paths: dict[str, str] = {}

    def find(self, container_id: str) -> str | None:
        """Path of the container's cgroup below the mount; None when it does not (or no longer) exist."""
        known = self._paths.get(container_id)
        if known is not None and self.exists(known):
            return known
        self._paths.pop(container_id, None)
        for found in _walk(self._base(), MAX_DEPTH):
            name = os.path.basename(found)
            if name == container_id or name == f"cri-containerd-{container_id}.scope":
                relative = os.path.relpath(found, self._base())
                self._paths[container_id] = relative
                return relative
        return None

    def forget_except(self, container_ids: set[str]) -> None:
        for container_id in self._paths.keys() - container_ids:
            del self._paths[container_id]

    def exists(self, path: str) -> bool:
        """Whether the cgroup is there: asked after a read, it says that the figures are whole."""
        return (self._base() / path).is_dir()

    def read(self, path: str) -> CgroupFigures:
        """Figures of the cgroup at `path` ("." is the root); zeros where it has gone meanwhile."""
        if self._unified:
            return _read_v2(self._mounts.get("", Path("/sys/fs/cgroup")) / path)
        return _read_v1(self._mounts, path)

    def _base(self) -> Path:
        return self._mounts.get("", Path("/sys/fs/cgroup")) if self._unified else self._mounts["memory"]


def _walk(root: Path, depth: int) -> Iterator[str]:
    try:
        with os.scandir(root) as entries:
            directories = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for directory in directories:
        yield directory
        if depth > 1:
            yield from _walk(Path(directory), depth - 1)


def _read_v1(mounts: dict[str, Path], path: str) -> CgroupFigures:
    nowhere = Path("/nonexistent")
    memory = mounts.get("memory", nowhere) / path
    read, written = _read_blocks_v1(mounts.get("blkio", nowhere) / path)
    return CgroupFigures(
        _read_cpu_v1(mounts.get("cpuacct", nowhere) / path, mounts.get("cpu", nowhere) / path),
        _read_memory_v1(memory),
        threads=_read_int(mounts.get("pids", nowhere) / path / "pids.current") or 0,
        pids=_read_pids(memory / "cgroup.procs"),
        read_bytes=read,
        write_bytes=written,
    )


def _read_cpu_v1(accounting: Path, cpu: Path) -> CpuFigures:
    split, throttling = _read_table(accounting / "cpuacct.stat"), _read_table(cpu / "cpu.stat")
    return CpuFigures(
        total_ns=_read_int(accounting / "cpuacct.usage") or 0,
        user_ns=split.get("user", 0) * 1_000_000_000 // USER_HZ,
        system_ns=split.get("system", 0) * 1_000_000_000 // USER_HZ,
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_ns=throttling.get("throttled_time", 0),
        shares=_read_int(cpu / "cpu.shares"),
        quota_us=_read_int(cpu / "cpu.cfs_quota_us"),
        period_us=_read_int(cpu / "cpu.cfs_period_us"),
    )


def _read_memory_v1(memory: Path) -> MemoryFigures:
    table = _read_table(memory / "memory.stat")
    return MemoryFigures(
        usage=_read_int(memory / "memory.usage_in_bytes") or 0,
        max_usage=_read_int(memory / "memory.max_usage_in_bytes"),
        limit=_read_int(memory / "memory.limit_in_bytes"),
        failures=_read_int(memory / "memory.failcnt") or 0,
        inactive_file=table.get("total_inactive_file", 0),
        rss=table.get("total_rss", 0),
        cache=table.get("total_cache", 0),
        mapped_file=table.get("total_mapped_file", 0),
        swap=table.get("total_swap", 0),
        page_faults=table.get("total_pgfault", 0),
        major_page_faults=table.get("total_pgmajfault", 0),
        oom_kills=_read_table(memory / "memory.oom_control").get("oom_kill", 0),
    )


def _read_blocks_v1(blocks: Path) -> tuple[int, int]:
    """Bytes read and written."""
    totals = {"Read": 0, "Write": 0}
    for line in _read(blocks / "blkio.throttle.io_service_bytes_recursive").splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in totals:
            totals[words[1]] += int(words[2])
    return totals["Read"], totals["Write"]


def _read_v2(directory: Path) -> CgroupFigures:
    read, written = _read_blocks_v2(directory)
    return CgroupFigures(
        _read_cpu_v2(directory),
        _read_memory_v2(directory),
        threads=_read_int(directory / "pids.current") or 0,
        pids=_read_pids(directory / "cgroup.procs"),
        read_bytes=read,
        write_bytes=written,
    )


def _read_cpu_v2(directory: Path) -> CpuFigures:
    cpu = _read_table(directory / "cpu.stat")
    quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    weight = _read_int(directory / "cpu.weight")
    return CpuFigures(
        total_ns=cpu.get("usage_usec", 0) * 1000,
        user_ns=cpu.get("user_usec", 0) * 1000,
        system_ns=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        # The runtime's mapping of shares to weight, backwards.
        shares=None if weight is None else 2 + (weight - 1) * 262142 // 9999,
        quota_us=int(quota) if quota.isdigit() else None,
        period_us=int(period) if period.isdigit() else None,
    )


def _read_memory_v2(directory: Path) -> MemoryFigures:
    table, events = _read_table(directory / "memory.stat"), _read_table(directory / "memory.events")
    return MemoryFigures(
        usage=_read_int(directory / "memory.current") or 0,
        max_usage=_read_int(directory / "memory.peak"),
        limit=_read_int(directory / "memory.max"),
        failures=events.get("max", 0),
        inactive_file=table.get("inactive_file", 0),
        rss=table.get("anon", 0),
        cache=table.get("file", 0),
        mapped_file=table.get("file_mapped", 0),
        swap=_read_int(directory / "memory.swap.current") or 0,
        page_faults=table.get("pgfault", 0),
        major_page_faults=table.get("pgmajfault", 0),
        oom_kills=events.get("oom_kill", 0),
    )


def _read_blocks_v2(directory: Path) -> tuple[int, int]:
    """Bytes read and written."""
    totals = {"rbytes": 0, "wbytes": 0}
    for line in _read(directory / "io.stat").splitlines():
        for word in line.split()[1:]:
            name, _, value = word.partition("=")
            if name in totals:
                totals[name] += int(value)
    return totals["rbytes"], totals["wbytes"]


def _read_pids(path: Path) -> tuple[int, ...]:
    return tuple(int(line) for line in _read(path).split() if line.isdigit())
