"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """With a line break behind it; "" without rows."""
    lines = [_line(row) for row in rows]
    return "\n".join((_line(heads), _line(["---"] * len(heads)), *lines)) + "\n" if lines else ""


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"
