"""A local image registry: Debian's docker-registry with plain http and its storage in the user's cache.

`python -m tests.cluster.registry up|down --state DIR --listen HOST:PORT`. The state directory holds the configuration,
the log and the pid file; the images stay in the cache, so a second start has them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cache import cache_dir
from tests.cluster.errors import ClusterError
from tests.cluster.images.distribution import RegistryClient

PROGRAM = "docker-registry"
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that cannot be mistaken for a later one with its pid: `started` is in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessRecord | None:
        """The record of a running process (field 22 of /proc/PID/stat); None when there is none, or a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessRecord.of(self.pid) == self


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry with its state in `state`, listening on `address` (host:port)."""

    state: Path
    address: str

    @property
    def _pid_file(self) -> Path:
        return self.state / "registry.pid"

    def _recorded(self) -> ProcessRecord | None:
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        record = ProcessRecord(int(pid), int(started))
        return record if record.alive else None

    def _configuration(self) -> str:
        storage = cache_dir() / "registry"
        storage.mkdir(parents=True, exist_ok=True)
        return (
            "version: 0.1\n"
            "log: {level: warn, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{storage}'}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}', secret: local}}\n"
        )

    def up(self) -> None:
        """Start it, or find it running with the same configuration; returns once it answers. Raises ClusterError."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise ClusterError(f"no {PROGRAM} on PATH", "python -m tests.cluster.packages install")
        configuration, file = self._configuration(), self.state / "registry.yml"
        if self._recorded() and file.exists() and file.read_text() == configuration:
            RegistryClient(self.address).ping()
            return
        self.down()
        self._check_address()
        self.state.mkdir(parents=True, exist_ok=True)
        file.write_text(configuration)
        with (self.state / "registry.log").open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", str(file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        record = ProcessRecord.of(process.pid)
        if record:
            self._pid_file.write_text(f"{record.pid} {record.started}\n")
        self._await_answer(process)

    def _check_address(self) -> None:
        """Fail with a clear line when the address is not this machine's, or taken."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, int(port)))
        except (OSError, ValueError) as error:
            advice = "choose a free port of an address of this machine with --listen HOST:PORT"
            raise ClusterError(f"the registry cannot listen on {self.address}: {error}", advice) from None

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                RegistryClient(self.address).ping()
                return
            except ClusterError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = (self.state / "registry.log").read_text(errors="replace").splitlines()[-3:]
                    self.down()
                    raise ClusterError("\n".join([f"the registry does not come up: {error}", *lines]),
                                       f"look at {self.state / 'registry.log'}") from None  # fmt: skip
            time.sleep(0.03)

    def down(self) -> None:
        """Stop it and remove its files from the state directory; fine when it does not run."""
        record = self._recorded()
        if record:
            _stop(record)
        for name in ("registry.pid", "registry.yml", "registry.log"):
            (self.state / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.state.rmdir()


def _stop(record: ProcessRecord) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while record.alive and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(record.pid, os.WNOHANG)
            time.sleep(0.02)
        if not record.alive:
            return


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0, or 3 with what went wrong and the next step on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.registry", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--state", required=True, type=Path, metavar="DIR")
    parser.add_argument("--listen", default="127.0.0.1:5000", metavar="HOST:PORT")
    options = parser.parse_args(arguments)
    registry = Registry(options.state.absolute(), options.listen)
    try:
        if options.command == "up":
            registry.up()
            print(f"registry listens on {options.listen}")
        else:
            registry.down()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
