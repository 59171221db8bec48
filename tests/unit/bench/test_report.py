"""RESULTS.md is renewed section by section."""

from __future__ import annotations

from pathlib import Path

from tests.bench.figure import Figure, median_figure
from tests.bench.report import Section, write

FIRST = Section(
    {"commit": "aaa", "took": "3 s"},
    [
        median_figure("speed", [1.0, 2.0, 4.0], "x", goal=1.5, most=False, note="a note", detail={"part": 0.5}),
        Figure("weight", 7, "MB", goal=6),
        Figure("count", 3, ""),
    ],
)
OTHER = Section({"commit": "bbb", "took": "1 s"}, [Figure("other", 1, "s")])


def test_a_section_measured_later_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    write({"first": FIRST, "second": OTHER}, room=tmp_path)
    before = (tmp_path / "RESULTS.md").read_text()
    write({"second": Section({"commit": "ccc", "took": "2 s"}, [Figure("other", 5, "s")])}, room=tmp_path)
    after = (tmp_path / "RESULTS.md").read_text()
    assert after.split("## second")[0] == before.split("## second")[0]
    assert [line for line in after.splitlines() if line.startswith(("commit: ", "| weight", "| other"))] == [
        "commit: aaa, took: 3 s",
        "| weight | 7     | MB   | <= 6   | no  |              |",
        "commit: ccc, took: 2 s",
        "| other  | 5     | s    |      |     |              |",
    ]
    assert "- speed: part 0.5" in after


def test_samples_and_goals_are_kept_for_machines(tmp_path: Path) -> None:
    write({"first": FIRST}, room=tmp_path)
    kept = (tmp_path / "results.jsonl").read_text()
    write({"second": OTHER}, room=tmp_path)
    assert (tmp_path / "results.jsonl").read_text().startswith(kept)
    assert '"goal": ">= 1.5", "met": true, "samples": [1.0, 2.0, 4.0]' in kept
