"""Writes RESULTS.md and results.jsonl beside this file, or those of another name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figure import Figure, tidy

ROOM = Path(__file__).parent
COLUMNS = ("figure", "value", "unit", "goal", "met", "what it says")


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one benchmark, and where they were measured: commit, machine, load before and after, seconds."""

    head: dict[str, str]
    figures: list[Figure]


def write(sections: dict[str, Section], title: str = "Benchmarks", suffix: str = "", room: Path = ROOM) -> None:
    """Renew these sections of RESULTS.md and results.jsonl; the others keep their place and what was measured before.

    suffix: of the names of both files.
    """
    records = room / f"results{suffix}.jsonl"
    sections = {**(_read(records.read_text()) if records.exists() else {}), **sections}
    records.write_text("\n".join(_lines(sections)) + "\n")
    text = [f"# {title}", "", "Values with several rounds are medians;"]
    text[-1] += f" all are in {records.name}. Each section says at which commit and load it was measured."
    for name, section in sections.items():
        text += ["", f"## {name}", "", ", ".join(f"{what}: {value}" for what, value in section.head.items()), ""]
        text += table(section.figures)
        if costs := _costs(section.figures):
            text += ["", "What costs what:", "", *costs]
    (room / f"RESULTS{suffix.upper()}.md").write_text("\n".join(text) + "\n")


def _lines(sections: dict[str, Section]) -> Iterator[str]:
    for name, section in sections.items():
        yield json.dumps({"section": name, **section.head})
        yield from (figure.to_json() for figure in section.figures)


def _read(text: str) -> dict[str, Section]:
    """What `_lines` wrote."""
    sections: dict[str, Section] = {}
    for line in text.splitlines():
        document = json.loads(line)
        if name := document.pop("section", None):
            sections[name] = current = Section(document, [])
        else:
            current.figures.append(Figure.from_json(document))
    return sections


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
