"""A report of costs or instances as an aligned table, JSON or CSV. Pure.

Names were chosen by whoever writes pods: in a table no character of them moves the cursor, in CSV none begins a formula
of a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from vk_provider.ledger.question import CostReport, CostRow

MAX_CELL = 80
FORMATS = ("table", "wide", "json", "csv")


def render_cost(report: CostReport, form: str) -> str:
    if form == "json":
        return json.dumps(report, indent=2) + "\n"
    heads = [*report["by"], "instances", "hours", "usd", "usd_disks", "usd_estimated", "hours_unpriced"]
    rows = [_cells(row) for row in report["rows"]]
    if form == "csv":
        return render_csv(heads, rows)
    rows.append(["total", *[""] * (len(report["by"]) - 1), *_cells(report["total"])])
    titles = [*(key.upper() for key in report["by"]), *_TITLES]
    if form != "wide":
        titles, rows = _drop_zeros(titles, rows, len(report["by"]) + _ALWAYS)
    head = f"{report['since']} to {report['until']}, from the {_SOURCES.get(report['source'], report['source'])}\n\n"
    notes = "".join(f"{clean(note)}\n" for note in report["notes"])
    table = render_table(titles, rows, len(report["by"]))
    return head + table + (f"\n{notes}" if notes else "")


def _drop_zeros(titles: list[str], rows: list[list[str]], first: int) -> tuple[list[str], list[list[str]]]:
    """Without the columns from `first` on in which there is nothing."""
    kept = [column for column in range(len(titles)) if column < first or any(float(row[column]) for row in rows)]
    return [titles[column] for column in kept], [[row[column] for column in kept] for row in rows]


_TITLES = ("INSTANCES", "HOURS", "USD", "DISK USD", "EST. USD", "UNPRICED H")
_ALWAYS = 3
_SOURCES = {"ledger": "ledger", "tags": "cloud's listing alone"}


def _cells(row: CostRow) -> list[str]:
    hours = row["seconds"] / 3600
    return [
        *(value or "-" for value in row["key"]),
        str(row["instances"]),
        f"{hours:.2f}",
        f"{row['usd']:.4f}",
        f"{row['diskUsd']:.4f}",
        f"{row['estimatedUsd']:.4f}",
        f"{row['unpricedSeconds'] / 3600:.2f}",
    ]


def render_rows(heads: Sequence[str], rows: Sequence[Mapping[str, object]], form: str) -> str:
    """Documents with equal keys, as JSON or CSV."""
    if form == "json":
        return json.dumps(list(rows), indent=2) + "\n"
    cells = [["-" if row.get(head) in ("", None) else str(row[head]) for head in heads] for row in rows]
    return render_csv(heads, cells)


def render_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """left: how many columns are aligned left; the others hold numbers."""
    lines = [[clean(cell) for cell in line] for line in (heads, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def render_csv(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return out.getvalue()


def _plain(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@\t\r" and cell != "-" and cell[:1] else cell


def clean(text: str, most: int = MAX_CELL) -> str:
    """On one line, without what a terminal acts on, cut to so many characters."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
