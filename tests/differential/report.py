"""What people read: the table of kinds and RESULTS.md. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.differential.case import Case
from tests.differential.difference import Difference

KIND_WIDTH = 100


@dataclass(slots=True)
class Kind:
    """One kind of difference: an instance of it, the smallest case that shows it, in which pairs it was seen.

    confirmed: a second run of a pair has shown it again
    lead: the kind whose smallest case shows this one, too
    """

    difference: Difference
    case: Case
    pairs: list[str] = field(default_factory=list)
    confirmed: bool = False
    lead: str | None = None

    @property
    def name(self) -> str:
        """The kind."""
        return self.difference.kind

    @property
    def slug(self) -> str:
        """A file name made of the kind."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:70].rstrip("-")
        return f"{words}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a run."""

    seed: str
    pairs: int
    refused: int
    equal: int
    known: int
    commit: str
    machine: str
    date: str
    wall_s: float
    slots: int
    void: int = 0
    untrue: tuple[str, ...] = ()


def order(kinds: Sequence[Kind]) -> list[Kind]:
    """The confirmed first, then by how many pairs show it."""
    return sorted(kinds, key=lambda kind: (not kind.confirmed, -len(kind.pairs), kind.name))


def table(kinds: Sequence[Kind]) -> str:
    """Aligned lines: pairs, again or once, parts of the smallest case, kind."""
    rows = [("pairs", "shown", "kind", "smallest case")]
    for kind in order([kind for kind in kinds if kind.lead is None]):
        shown = "again" if kind.confirmed else "once"
        rows.append((str(len(kind.pairs)), shown, _cut(kind.name), " ".join(kind.case.features) or kind.case.name))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}".rstrip() for row in rows
    )


def _cut(text: str) -> str:
    return text if len(text) <= KIND_WIDTH else text[: KIND_WIDTH - 3] + "..."


def render(totals: Totals, kinds: Sequence[Kind], known: Sequence[tuple[str, str]]) -> str:
    """RESULTS.md. `known`: (name, reason) of what differs on purpose."""
    confirmed = [kind for kind in order(kinds) if kind.confirmed]
    leads = [kind for kind in confirmed if kind.lead is None]
    once = [kind for kind in order(kinds) if not kind.confirmed]
    lines = [
        "# The same pods on this node and on a real kubelet",
        "",
        "Written by `make differential`. A kind counts when a second run of a pair shows it again.",
        "",
        "| | |",
        "|---|---|",
        f"| seed | {totals.seed} |",
        f"| pairs | {totals.pairs}, of them refused by the API server on both sides: {totals.refused} |",
        f"| pairs given up, since the machine did not keep up (not counted) | {totals.void} |",
        f"| pairs without a difference | {totals.equal} |",
        f"| pairs with differences of the list below only | {totals.known} |",
        f"| kinds found and left | {len(confirmed)} in {len(leads)} groups, and {len(once)} shown once only |",
        f"| commit | {totals.commit} |",
        f"| machine | {totals.machine} |",
        f"| date | {totals.date} |",
        f"| wall time | {totals.wall_s / 60:.1f} min, {totals.slots} pairs at a time |",
        "",
        "## Different on purpose",
        "",
        *(f"* **{name}**: {reason}" for name, reason in known),
        *([] if known else ["nothing"]),
    ]
    if totals.untrue:
        lines += ["", "No longer true, to be taken from the list: " + ", ".join(totals.untrue)]
    if confirmed:
        lines += ["", "## Kinds left"]
    for kind in leads:
        followers = [other.name for other in confirmed if other.lead == kind.name]
        lines += ["", *_section(kind, followers)]
    if once:
        lines += ["", "## Shown once, not again", "", *(f"* {kind.name} ({kind.pairs[0]})" for kind in once)]
    return "\n".join(lines) + "\n"


def _section(kind: Kind, followers: Sequence[str]) -> list[str]:
    return [
        f"### {kind.name}",
        "",
        f"{len(kind.pairs)} pairs, such as {', '.join(kind.pairs[:3])}.",
        "",
        "```",
        f"here:    {kind.difference.ours[:600]}",
        f"kubelet: {kind.difference.theirs[:600]}",
        "```",
        "",
        *(["The same case shows:", "", *(f"* {name}" for name in followers), ""] if followers else []),
        "```yaml",
        kind.case.to_yaml().rstrip(),
        "```",
    ]
