"""One conformance run from the first sitting to the results page: what is asked, what is left, what came out."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.targets import kubernetes_version
from tests.conformance.circumstance import read_commit, read_machine
from tests.conformance.journal import Journal, SpecResult, read_journal
from tests.conformance.results import Circumstances, parse_causes, render, shorten
from tests.conformance.selection import Selection, unknown_names
from tests.conformance.suite import Programs, Suite

ROOM = Path(__file__).parent
CAUSES = ROOM / "causes.toml"
RESULTS = ROOM / "RESULTS.md"
NODE_ADVICE = "look at the cluster: the specs start only when every node is Ready and schedulable (kubectl get nodes)"


@dataclass(slots=True)
class RunRecord:
    """What is kept in run.json between sittings."""

    names: list[str]
    commits: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    sittings: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the command line asked for."""

    selection: Selection
    programs: Programs
    kubeconfig: Path
    registry: str
    state: Path
    processes: int
    fresh: bool = False
    failed_only: bool = False
    failed_matching: str = ""
    results: Path | None = None


class Run:
    """A run in a directory of its own below the state directory, found again by what was asked of which binary."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        asked = json.dumps([asdict(plan.selection), str(plan.programs.e2e)], sort_keys=True)
        self.directory = plan.state / hashlib.sha256(asked.encode()).hexdigest()[:12]
        self.suite = Suite(plan.programs, plan.kubeconfig, plan.registry, self.directory)
        self._record_file = self.directory / "run.json"

    def execute(self) -> int:
        """Run what is left; 0 when every spec passed or skipped itself, 1 when some failed."""
        record, journal = self._load()
        todo = self._failures(record, journal) if self.plan.failed_only else journal.missing(record.names)
        try:
            if todo:
                self._sitting(record, journal, todo)
        finally:  # also of a run that is cut short
            page = self.write_results(record, journal)
        failed, missing = journal.failures(record.names), journal.missing(record.names)
        passed = sum(journal.results[name].passed for name in record.names if name in journal.results)
        say(f"{passed} of {len(record.names)} passed, {len(failed)} failed, {len(missing)} not run; see {page}")
        if missing:
            raise ClusterError(f"{len(missing)} specs were not run:\n{self.suite.log_tail()}", NODE_ADVICE)
        return 1 if failed else 0

    def _failures(self, record: RunRecord, journal: Journal) -> list[str]:
        return [name for name in journal.failures(record.names) if re.search(self.plan.failed_matching, name)]

    def _load(self) -> tuple[RunRecord, Journal]:
        """The record and journal to go on with. A run that is complete starts anew, unless its failures are wanted."""
        if self._record_file.exists() and not self.plan.fresh:
            record = RunRecord(**json.loads(self._record_file.read_text()))
            journal = read_journal(self.suite.journal_file.read_text() if self.suite.journal_file.exists() else "")
            missing = journal.missing(record.names)
            if self.plan.failed_only or missing:
                left = f"{len(missing)} of {len(record.names)} specs have no result yet"
                say(f"going on with the run in {self.directory}: {left} (--fresh starts anew)")
                return record, journal
        if self.plan.failed_only:
            raise ClusterError("there is no earlier run whose failures could be run again", "run without --failed")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return RunRecord(self._names()), Journal()

    def _names(self) -> list[str]:
        existing = self.suite.list_names(self.plan.selection)
        wanted = list(self.plan.selection.names) or sorted(existing)
        if unknown := unknown_names(wanted, existing):
            raise ClusterError("\n".join(["no spec is called:", *unknown]), "correct the list of names")
        if not wanted:
            raise ClusterError(f"no spec matches {self.plan.selection.describe()}", "choose another focus or filter")
        return wanted

    def _sitting(self, record: RunRecord, journal: Journal, todo: list[str]) -> None:
        record.sittings += 1
        record.processes = self.plan.processes
        commit = read_commit()
        if not record.commits or record.commits[-1] != commit:
            record.commits.append(commit)
        self._save(record)
        say(f"running {len(todo)} specs, {self.plan.processes} at a time; output of failed ones in {self.directory}")
        with self._timed(record):
            progress = Progress(len(todo), journal)
            self.suite.run(todo, self.plan.processes, journal, progress.result, progress.wait)

    @contextmanager
    def _timed(self, record: RunRecord) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            record.wall_s += time.monotonic() - started
            self._save(record)

    def _save(self, record: RunRecord) -> None:
        partial = self._record_file.with_suffix(".new")
        partial.write_text(json.dumps(asdict(record), indent=1))
        partial.replace(self._record_file)

    def write_results(self, record: RunRecord, journal: Journal) -> Path:
        """Write the page: the published one for the whole selection, beside the journal for a part of it."""
        default = RESULTS if self.plan.selection.whole else self.directory / "results.md"
        page = self.plan.results or default
        circumstances = Circumstances(
            selection=self.plan.selection.describe(),
            kubernetes=kubernetes_version(),
            commit=", then ".join(record.commits),
            machine=read_machine(),
            date=datetime.now(UTC).date().isoformat(),
            processes=record.processes,
            wall_s=record.wall_s,
            sessions=record.sittings,
        )
        causes = parse_causes(CAUSES.read_text()) if CAUSES.exists() else []
        results = [journal.results[name] for name in record.names if name in journal.results]
        page.write_text(render(circumstances, results, journal.missing(record.names), causes))
        return page


@dataclass(slots=True)
class Progress:
    """Says each result as it comes, and on a terminal what runs now."""

    total: int
    journal: Journal
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    started: float = field(default_factory=time.monotonic)

    def result(self, result: SpecResult) -> None:
        """One line a spec, with the message of a failure."""
        self.passed += result.passed
        self.failed += result.failed
        self.skipped += result.skipped
        done = self.passed + self.failed + self.skipped
        width = len(str(self.total))
        failed = f", {self.failed} failed" if self.failed else ""
        state = result.state if result.passed else result.state.upper()
        say(f"[{done:>{width}}/{self.total}{failed}] {state} {result.seconds:.1f} s {result.name}")
        if result.failed:
            say(f"{'':{width}}  {shorten(result.message, 300)}")

    def wait(self) -> None:
        """Rewrite the line of what runs now."""
        if sys.stderr.isatty():
            running = "; ".join(name.split("]", 1)[-1].strip()[:40] for name in self.journal.running.values())
            line = f"{time.monotonic() - self.started:.0f} s, running: {running or 'setup of the suite'}"
            print(f"\r\x1b[K{line[:115]}", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line of progress on stderr, over the line of what runs now."""
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
