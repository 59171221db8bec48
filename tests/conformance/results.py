"""The outcome of a run as a page of Markdown. Pure."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.conformance.journal import SpecResult

_MESSAGE_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a reader needs in order to judge the figures; `wall_s` is summed over resumed runs."""

    selection: str
    kubernetes: str
    commit: str
    machine: str
    date: str
    processes: int
    wall_s: float
    sessions: int = 1


@dataclass(frozen=True, slots=True)
class Cause:
    """An explanation written by hand for the failures of the specs whose names match."""

    match: re.Pattern[str]
    text: str


@dataclass(slots=True)
class Tally:
    """Counts of one area."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    missing: int = field(default=0)

    @property
    def total(self) -> int:
        """All specs of the area."""
        return self.passed + self.failed + self.skipped + self.missing


def parse_causes(text: str) -> list[Cause]:
    """TOML with `[[cause]]` tables of `match` (regular expression on the spec's name) and `text`."""
    return [Cause(re.compile(table["match"]), table["text"]) for table in tomllib.loads(text).get("cause", [])]


def area_of(name: str) -> str:
    """`sig-node / Probing container` for `[sig-node] Probing container should ...`, as far as a name tells: the sig."""
    found = re.match(r"\[(sig-[\w-]+)\]", name)
    return found[1] if found else "other"


def area_title(name: str, container: str) -> str:
    """The area of a spec with the text of its outermost container, which begins with the same [sig]."""
    title = re.sub(r"^\[sig-[\w-]+\]\s*", "", container).strip()
    return f"{area_of(name)} / {title}" if title else area_of(name)


def shorten(message: str, limit: int = _MESSAGE_LIMIT) -> str:
    """The first failure message on one line, without addresses of memory and blank space, at most `limit` long."""
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", re.sub(r"\s+", " ", message)).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def tally(results: Sequence[SpecResult]) -> dict[str, Tally]:
    """Counts by area title, sorted by title."""
    areas: dict[str, Tally] = {}
    for result in results:
        counts = areas.setdefault(area_title(result.name, result.area), Tally())
        if result.passed:
            counts.passed += 1
        elif result.failed:
            counts.failed += 1
        else:
            counts.skipped += 1
    return dict(sorted(areas.items()))


def render(
    circumstances: Circumstances, results: Sequence[SpecResult], missing: Sequence[str], causes: Sequence[Cause]
) -> str:
    """The whole page."""
    states = Counter("passed" if r.passed else "failed" if r.failed else "skipped" for r in results)
    total = len(results) + len(missing)
    lines = [
        "# Conformance results",
        "",
        f"**{states['passed']} of {total} passed**, {states['failed']} failed, {states['skipped']} skipped by the spec"
        f" itself, {len(missing)} not run.",
        "",
        *_circumstance_lines(circumstances, results),
        "",
        *_area_lines(results, missing),
    ]
    failed = sorted((result for result in results if result.failed), key=lambda result: result.name)
    if failed:
        lines += ["", "## Failed", ""]
        for result in failed:
            lines += _failure_lines(result, causes)
    lines += _list_lines(
        "Skipped by the spec itself", [f"{r.name}: {shorten(r.message, 200)}" for r in results if r.skipped]
    )
    lines += _list_lines("Not run", list(missing))
    return "\n".join(lines).rstrip() + "\n"


def _circumstance_lines(c: Circumstances, results: Sequence[SpecResult]) -> list[str]:
    minutes = f"{c.wall_s / 60:.1f} min" + (f" in {c.sessions} sittings" if c.sessions > 1 else "")
    longest = sorted(results, key=lambda result: -result.seconds)[:3]
    rows = {
        "specs": f"Kubernetes {c.kubernetes}, {c.selection}",
        "wall time": f"{minutes}, {c.processes} at a time",
        "commit": c.commit,
        "date": c.date,
        "machine": c.machine,
        "longest": "; ".join(f"{result.seconds:.0f} s {result.name}" for result in longest),
    }
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())]


def _area_lines(results: Sequence[SpecResult], missing: Sequence[str]) -> list[str]:
    areas = tally(results)
    for name in missing:
        areas.setdefault(area_of(name), Tally()).missing += 1
    lines = ["| area | passed | failed | skipped | not run |", "|---|---:|---:|---:|---:|"]
    for title, counts in sorted(areas.items()):
        lines.append(
            f"| {_cell(title)} | {counts.passed} | {counts.failed or ''} | {counts.skipped or ''} |"
            f" {counts.missing or ''} |"
        )
    return lines


def _failure_lines(result: SpecResult, causes: Sequence[Cause]) -> list[str]:
    lines = [f"- **{result.name}** ({result.state} after {result.seconds:.0f} s)"]
    lines += [f"  - cause: {cause.text.strip()}" for cause in causes if cause.match.search(result.name)]
    where = f" at {result.location.rsplit('/e2e/', 1)[-1]}" if result.location else ""
    lines.append(f"  - message{where}: {shorten(result.message) or 'none'}")
    return lines


def _list_lines(title: str, items: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {item}" for item in items)] if items else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
