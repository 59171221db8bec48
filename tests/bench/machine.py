"""What the kernel says of processes and of this machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROJECT = Path(__file__).resolve().parents[2]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, its waited-for children left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def threads_cpu_seconds(pid: int) -> float:
    """CPU time of the threads that live now, to the nanosecond: for what hardly uses any."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_mb(pid: int) -> float:
    """VmRSS in MB (10^6 bytes)."""
    return _kilobytes(Path(f"/proc/{pid}/status").read_text(), "VmRSS:") * 1024 / 1e6


def peak_mb(pid: int) -> float:
    """VmHWM in MB (10^6 bytes): the most that was resident since the start or since `reset_peak`."""
    return _kilobytes(Path(f"/proc/{pid}/status").read_text(), "VmHWM:") * 1024 / 1e6


def reset_peak() -> None:
    """Of this process: proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")


def private_mb(pid: int) -> float:
    """Memory that would be free if the process ended: Private_* of smaps_rollup, in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    names = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")
    return sum(_kilobytes(text, name) for name in names) * 1024 / 1e6


def _kilobytes(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0)


def find_children(pid: int, name: str) -> list[int]:
    """Children of `pid` whose process name (comm) is `name`; "" = all."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if not name or Path(f"/proc/{child}/comm").read_text().strip() == name:
                found.append(int(child))
    return found


def describe() -> dict[str, str]:
    """Commit and machine, for the head of the results."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = _kilobytes(Path("/proc/meminfo").read_text(), "MemTotal:")
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + (" with changes" if _git("status", "--porcelain") else ""),
        "machine": f"{os.cpu_count()} x {model}, {memory * 1024 / 1e9:.0f} GB",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
    }


@contextmanager
def observed() -> Iterator[dict[str, str]]:
    """Yield the head of a section: commit and machine, and, once it has ended, the load around it and its seconds."""
    head, started = {**describe(), "load before": load()}, time.monotonic()
    yield head
    head |= {"load after": load(), "took": f"{time.monotonic() - started:.0f} s"}


def load() -> str:
    """Load average of the last minute: what else the machine was doing."""
    return f"{os.getloadavg()[0]:.1f}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
