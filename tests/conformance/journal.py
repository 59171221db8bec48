"""What the specs did, from the JSON lines the test binary appends (tests/cluster/src/e2e/journal_test.go). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

PASSED = frozenset({"passed"})
FAILED = frozenset({"failed", "panicked", "timedout"})
SKIPPED = frozenset({"skipped", "pending"})
# `interrupted` and `aborted` are no results: the spec was not given its time.


@dataclass(frozen=True, slots=True)
class SpecResult:
    """The end of one spec. `state` is ginkgo's word; `output` a file name beside the journal, of failed specs."""

    name: str
    area: str
    state: str
    seconds: float
    message: str = ""
    location: str = ""
    output: str = ""

    @property
    def passed(self) -> bool:
        """It ran and was content."""
        return self.state in PASSED

    @property
    def failed(self) -> bool:
        """It ran and was not content."""
        return self.state in FAILED

    @property
    def skipped(self) -> bool:
        """It decided not to run here."""
        return self.state in SKIPPED


@dataclass(slots=True)
class Journal:
    """The state of a run after the lines read so far: the last result of each spec, and which specs run now."""

    results: dict[str, SpecResult] = field(default_factory=dict)
    running: dict[int, str] = field(default_factory=dict)

    def feed(self, line: str) -> SpecResult | None:
        """Take one line; the result it brings, if any. A torn line (a process was killed while writing) is ignored."""
        try:
            entry = json.loads(line)
            event, name, process = entry["event"], entry["name"], int(entry["process"])
        except (ValueError, KeyError, TypeError):
            return None
        if event == "started":
            self.running[process] = name
            return None
        self.running.pop(process, None)
        result = SpecResult(
            name,
            entry.get("area", ""),
            entry.get("state", ""),
            float(entry.get("seconds", 0)),
            entry.get("message", ""),
            entry.get("location", ""),
            entry.get("output", ""),
        )
        if not (result.passed or result.failed or result.skipped):
            return None
        self.results[name] = result
        return result

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` without a result, in their order."""
        return [name for name in names if name not in self.results]

    def failures(self, names: Iterable[str]) -> list[str]:
        """Those of `names` whose last result is a failure."""
        return [name for name in names if name in self.results and self.results[name].failed]


def read_journal(text: str) -> Journal:
    """The journal after all lines of `text`; nothing runs any more."""
    journal = Journal()
    for line in text.splitlines():
        journal.feed(line)
    journal.running.clear()
    return journal
