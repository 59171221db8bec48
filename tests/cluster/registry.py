"""A local image registry: Debian's docker-registry with plain http and its storage in the user's cache.

`python -m tests.cluster.registry up|down --state DIR --listen HOST:PORT`. The state directory holds the configuration,
the log and the pid file; the images stay in the cache, so a second start has them.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cache import cache_dir
from tests.cluster.errors import ClusterError
from tests.cluster.images.distribution import RegistryClient
from tests.cluster.process import Process

PROGRAM = "docker-registry"
_START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry with its state in `state`, listening on `address` (host:port).

    storage: where the images are; None: in the user's cache, where a second start finds them
    """

    state: Path
    address: str
    storage: Path | None = None

    @property
    def _process(self) -> Process:
        return Process("registry", self.state, self.state)

    @property
    def _configuration_file(self) -> Path:
        return self.state / "registry.yml"

    @property
    def log(self) -> Path:
        """One line for each request (access log), and errors."""
        return self._process.log

    def _configuration(self) -> str:
        storage = self.storage or cache_dir() / "registry"
        storage.mkdir(parents=True, exist_ok=True)
        return (
            "version: 0.1\n"
            "log: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: '{storage}'}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}', secret: local}}\n"
        )

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process.pid() is not None

    def up(self) -> None:
        """Start it, or find it running with the same configuration; returns once it answers. Raises ClusterError."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise ClusterError(f"no {PROGRAM} on PATH", "python -m tests.cluster.packages install")
        configuration, file = self._configuration(), self._configuration_file
        if self._process.pid() and file.exists() and file.read_text() == configuration:
            RegistryClient(self.address).ping()
            return
        self.down()
        self._check_address()
        self.state.mkdir(parents=True, exist_ok=True)
        file.write_text(configuration)
        self._process.start([program, "serve", str(file)])
        self._await_answer()

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

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                RegistryClient(self.address).ping()
                return
            except ClusterError as error:
                if self._process.pid() is None or time.monotonic() > deadline:
                    lines = self._process.log.read_text(errors="replace").splitlines()[-3:]
                    self._process.stop()
                    what = "\n".join([f"the registry does not come up: {error}", *lines])
                    raise ClusterError(what, f"look at {self._process.log}") from None
            time.sleep(0.03)

    def down(self) -> None:
        """Stop it and remove its files from the state directory; fine when it does not run."""
        self._process.stop()
        for file in (self._configuration_file, self._process.log):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.state.rmdir()


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
