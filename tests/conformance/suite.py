"""Running the compiled specs: a dry run for their names, then ginkgo, watched by its journal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.images.catalog import repository_list
from tests.conformance.journal import Journal, SpecResult
from tests.conformance.selection import Selection, focus_of, selected_names

_INTERRUPT_GRACE_S = 90.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Programs:
    """The binaries a run needs."""

    e2e: Path
    ginkgo: Path
    kubectl: Path


@dataclass(frozen=True, slots=True)
class Suite:
    """The specs against one cluster. `state` holds the journal, the output of failed specs and ginkgo's log."""

    programs: Programs
    kubeconfig: Path
    registry: str
    state: Path

    @property
    def journal_file(self) -> Path:
        """JSON lines, appended to by the test binary."""
        return self.state / "journal.jsonl"

    @property
    def log_file(self) -> Path:
        """What ginkgo printed."""
        return self.state / "ginkgo.log"

    def _count_nodes(self) -> int:
        """The Nodes that specs may schedule pods to. The test binary counts for itself in the first process only."""
        command = [str(self.programs.kubectl), f"--kubeconfig={self.kubeconfig}", "get", "nodes", "-o", "json"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode:
            raise ClusterError(f"the Nodes cannot be listed: {listed.stderr.strip()}", "try: make conformance-down")
        specs = [item["spec"] for item in json.loads(listed.stdout)["items"]]
        return sum(not spec.get("unschedulable") and not spec.get("taints") for spec in specs)

    def _cluster_flags(self, nodes: int) -> list[str]:
        return [
            "--provider=skeleton",
            f"--kubeconfig={self.kubeconfig}",
            f"--kubectl-path={self.programs.kubectl}",
            "--allowed-not-ready-nodes=-1",
            f"--num-nodes={nodes}",
            "--dns-domain=cluster.local",
            "--dump-logs-on-failure=false",
        ]

    def _environment(self) -> dict[str, str]:
        repositories = self.state / "repos.yaml"
        repositories.write_text(repository_list(self.registry))
        return {**os.environ, "KUBE_TEST_REPO_LIST": str(repositories), "E2E_JOURNAL": str(self.journal_file)}

    def list_names(self, selection: Selection) -> list[str]:
        """The names of the selected specs, by a dry run (nothing touches the cluster)."""
        with tempfile.TemporaryDirectory(prefix="dry-run-", dir=self.state) as directory:
            report = Path(directory) / "report.json"
            command = [
                str(self.programs.e2e),
                "--ginkgo.dry-run",
                "--ginkgo.silence-skips",
                f"--ginkgo.json-report={report}",
                *([] if selection.names else [f"--ginkgo.label-filter={selection.label_filter}"]),
                *([f"--ginkgo.focus={selection.focus}"] if selection.focus else []),
                *([f"--ginkgo.skip={selection.skip}"] if selection.skip else []),
                *self._cluster_flags(nodes=1),
            ]
            environment = {key: value for key, value in self._environment().items() if key != "E2E_JOURNAL"}
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=directory, check=False)
            if ran.returncode or not report.exists():
                lines = (ran.stdout + ran.stderr).strip().splitlines()[-8:]
                raise ClusterError("\n".join(["the specs cannot be listed:", *lines]), f"try {command[0]} --help")
            return selected_names(json.loads(report.read_text()))

    def run(
        self,
        names: list[str],
        processes: int,
        journal: Journal,
        on_result: Callable[[SpecResult], None],
        on_wait: Callable[[], None],
    ) -> int:
        """Run the specs called `names`, `processes` at a time; ginkgo's exit code (0: all passed).

        `on_result` is called for each result as it comes, `on_wait` twice a second. On KeyboardInterrupt the
        specs that run are given time to clean up after themselves, then the exception goes on.
        """
        self.journal_file.touch()
        command = [
            str(self.programs.ginkgo),
            "run",
            f"--procs={processes}",
            "--timeout=24h",
            "--no-color",
            "--succinct",
            "--silence-skips",
            "--keep-going",
            f"--focus={focus_of(names)}",
            str(self.programs.e2e),
            "--",
            *self._cluster_flags(self._count_nodes()),
        ]
        with self.log_file.open("wb") as log, self.journal_file.open() as lines:
            lines.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.state,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                follower = _Follower(lines.readline, journal, on_result)
                while process.poll() is None:
                    follower.read()
                    on_wait()
                    time.sleep(_POLL_S)
                follower.read()
                return process.returncode
            finally:
                _end(process)
                follower.read()

    def log_tail(self, lines: int = 12) -> str:
        """The last lines ginkgo printed."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


@dataclass(slots=True)
class _Follower:
    """Reads whole lines from a growing file into a journal."""

    readline: Callable[[], str]
    journal: Journal
    on_result: Callable[[SpecResult], None]
    partial: str = ""

    def read(self) -> None:
        while piece := self.readline():
            self.partial += piece
            if not self.partial.endswith("\n"):
                return
            result = self.journal.feed(self.partial)
            self.partial = ""
            if result:
                self.on_result(result)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt ginkgo and what it started, wait while specs delete their namespaces, then kill what is left."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(_INTERRUPT_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
