"""One long-running program of the cluster: its own session, a log file, and a pid file that survives our own exit."""

from __future__ import annotations

import json
import os
import select
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals

from tests.cluster.errors import ClusterError

TERMINATE_S = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """A program known by `name`; `run_dir` holds its pid file and `log_dir` its log."""

    name: str
    run_dir: Path
    log_dir: Path

    @property
    def log(self) -> Path:
        """Where its stdout and stderr go."""
        return self.log_dir / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """JSON {pid, started}: `started` is the start time of /proc/PID/stat, so that a reused pid is not mistaken."""
        return self.run_dir / f"{self.name}.pid"

    def pid(self) -> int | None:
        """The pid while it runs (a stopped, SIGSTOPped process runs), else None. Raises ClusterError when the pid file
        is not one of ours."""
        try:
            known = json.loads(self.pid_file.read_text())
            pid, started = known["pid"], known["started"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            pid = started = None
        if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
            advice = f"see whether {self.name} still runs, end it, and remove the file"
            raise ClusterError(f"{self.pid_file} is corrupt: no JSON object with pid and started", advice)
        _reap(pid)
        return pid if started is not None and start_time(pid) == started else None

    def start(self, command: Sequence[str], environment: dict[str, str] | None = None) -> int:
        """Start it unless it runs already; the pid."""
        running = self.pid()
        if running:
            return running
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        pid = _spawn(command, self.log, {**os.environ, **(environment or {})})
        partial = self.pid_file.with_suffix(".new")
        try:
            partial.write_text(json.dumps({"pid": pid, "started": start_time(pid)}))
            partial.replace(self.pid_file)
        except OSError:  # nobody would find it again
            _kill_group(pid, SIGKILL)
            raise
        return pid

    def stop(self, limit_s: float = TERMINATE_S) -> None:
        """SIGTERM to its whole session, SIGKILL after `limit_s`; returns when it is gone, at once if it is."""
        pid = self.pid()
        if pid:
            self.signal(SIGCONT)
            if not self._signal_and_wait(pid, SIGTERM, limit_s):
                self._signal_and_wait(pid, SIGKILL, 5)
            _kill_group(pid, SIGKILL)  # children that ignored the first signal
        self.pid_file.unlink(missing_ok=True)

    def signal(self, number: Signals) -> None:
        """Send a signal to its process group (SIGSTOP and SIGCONT freeze and thaw it)."""
        pid = self.pid()
        if pid:
            _kill_group(pid, number)

    def require_alive(self) -> None:
        """Raises ClusterError with the last lines of the log when it has ended."""
        if self.pid() is None:
            raise ClusterError(f"{self.name} ended:\n{self.last_lines()}", f"read {self.log}")

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return "(no log)"

    def _signal_and_wait(self, pid: int, number: Signals, limit_s: float) -> bool:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            _kill_group(pid, number)
            readable, _, _ = select.select([handle], [], [], limit_s)
        finally:
            os.close(handle)
        _reap(pid)
        return bool(readable)


def _spawn(command: Sequence[str], log: Path, environment: dict[str, str]) -> int:
    """Start `command` as a session leader with stdin closed and output appended to `log`."""
    with log.open("ab") as out:
        out.write(f"--- {shlex.join(command)}\n".encode())
        out.flush()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, out.fileno(), 2),
        ]
        try:
            return os.posix_spawn(command[0], list(command), environment, file_actions=actions, setsid=True)
        except OSError as error:
            raise ClusterError(f"cannot start {command[0]}: {error.strerror}") from error


def start_time(pid: int) -> int | None:
    """Start time in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int) -> None:
    """Collect the exit status if the process was our child and has ended."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _kill_group(pid: int, number: Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
