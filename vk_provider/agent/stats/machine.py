"""Figures outside cgroups: network counters, file systems, directories, and the machine as a whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vk_provider.jsontypes import Json
from vk_provider.wire.values import as_counter


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """One network interface since it exists."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def parse_net_dev(text: str) -> list[InterfaceCounters]:
    """Interfaces of /proc/<pid>/net/dev, loopback left out."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = [as_counter(int(word)) for word in rest.split()]
        if name.strip() != "lo" and len(words) >= 12:
            found.append(InterfaceCounters(name.strip(), *words[0:4], *words[8:12]))
    return found


def read_interfaces(pid: int) -> list[InterfaceCounters]:
    """Interfaces of the network namespace of a process; [] when it has gone."""
    try:
        return parse_net_dev(Path(f"/proc/{pid}/net/dev").read_text())
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class DirectoryUsage:
    """Disk blocks and inodes below a directory."""

    used_bytes: int
    inodes: int


def measure_directory(path: str) -> DirectoryUsage:
    """Walk a directory on its own file system; what vanishes meanwhile does not count. Blocking."""
    used, inodes = 0, 0
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return DirectoryUsage(0, 0)
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    inodes += 1
                    used += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False) and status.st_dev == device:
                        pending.append(entry.path)
        except OSError:
            continue
    return DirectoryUsage(used, inodes + 1)


def read_file_system(path: str, moment: str) -> Json:
    """The file system that holds `path`, in the words of FsStats."""
    try:
        status = os.statvfs(path)
    except OSError:
        return {"time": moment}
    figures = {
        "availableBytes": status.f_bavail * status.f_frsize,
        "capacityBytes": status.f_blocks * status.f_frsize,
        "usedBytes": (status.f_blocks - status.f_bfree) * status.f_frsize,
        "inodesFree": status.f_ffree,
        "inodes": status.f_files,
        "inodesUsed": status.f_files - status.f_ffree,
    }
    return {"time": moment, **{name: as_counter(value) for name, value in figures.items()}}


def read_meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    table = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        table[name] = int(rest.split()[0]) * 1024
    return table


def read_machine_cpu_ns() -> int:
    """CPU time of the whole machine, idle and waiting time left out."""
    with open("/proc/stat") as file:
        words = [int(word) for word in file.readline().split()[1:]]
    busy = sum(words[:8]) - words[3] - words[4]
    return busy * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def count_processes() -> int:
    """Processes of this PID namespace."""
    return sum(1 for name in os.listdir("/proc") if name.isdigit())


def read_pid_max() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text())
