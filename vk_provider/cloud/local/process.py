"""Identity of a process that outlives us: pid and start time, so that a reused pid is never mistaken for it."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path


def read_start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (proc(5), field 22), None when the process is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on this machine, for its whole life."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        ticks = read_start_ticks(pid)
        return None if ticks is None else cls(pid, ticks)

    @classmethod
    def read(cls, path: Path) -> ProcessIdentity | None:
        """Read a pid file; None when it is missing or not completely written."""
        try:
            text = path.read_text()
            if not text.endswith("\n"):
                return None
            pid, ticks = text.split()
            return cls(int(pid), int(ticks))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(f"{self.pid} {self.start_ticks}\n")
        temporary.rename(path)

    def is_alive(self) -> bool:
        return read_start_ticks(self.pid) == self.start_ticks

    def open(self) -> int | None:
        """A pidfd of exactly this process (close it), None when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError):
            return None
        if self.is_alive():
            return descriptor
        os.close(descriptor)
        return None


async def end_process(identity: ProcessIdentity, number: signal.Signals, timeout_s: float) -> bool:
    """Signal the process and wait for its end without polling; True when it is gone."""
    descriptor = identity.open()
    if descriptor is None:
        return True
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        signal.pidfd_send_signal(descriptor, number)
        async with asyncio.timeout(timeout_s):
            await gone.wait()
        return True
    except ProcessLookupError:
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
