"""Writes RESULTS.md and results.jsonl beside this file, or those of another name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.bench.figure import Figure, tidy

ROOM = Path(__file__).parent
COLUMNS = ("figure", "value", "unit", "goal", "met", "what it says")


def write(sections: dict[str, list[Figure]], head: dict[str, str], title: str = "Benchmarks", suffix: str = "") -> None:
    """sections: figures by benchmark; head: commit, machine, load. suffix: of the names of both files."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in head.items()), ""]
    lines += [f"Values with several rounds are medians; all are in results{suffix}.jsonl.", ""]
    for name, figures in sections.items():
        lines += [f"## {name}", "", *table(figures), ""]
        if any(figure.detail for figure in figures):
            lines += ["What costs what:", "", *_costs(figures), ""]
    (ROOM / f"RESULTS{suffix.upper()}.md").write_text("\n".join(lines))
    head_line = json.dumps({"name": "head", **head})
    (ROOM / f"results{suffix}.jsonl").write_text(
        "\n".join([head_line, *(f.to_json() for figures in sections.values() for f in figures)]) + "\n"
    )


def _costs(figures: Iterable[Figure]) -> list[str]:
    """One line per figure that knows its parts."""
    return [
        f"- {figure.name}: " + ", ".join(f"{part} {value:g}" for part, value in figure.detail.items())
        for figure in figures
        if figure.detail
    ]


def table(figures: Iterable[Figure]) -> list[str]:
    """Rows of a Markdown table whose columns align in plain text, too."""
    rows = [COLUMNS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _row(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "no"}[figure.met]
    value = f"{tidy(figure.value):g}"
    return (figure.name, value, figure.unit, figure.goal_text, met, figure.note)
