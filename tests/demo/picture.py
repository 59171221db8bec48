"""Figures over time as a picture of characters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MARGIN = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the begin, answers a second, Ready pods, live instances of the pods, USD
    an hour that these cost."""

    at_s: float
    load: float
    replicas: int
    instances: int
    dollars: float


def draw(samples: Sequence[Sample], width: int = 72) -> str:
    """Four charts above one axis of time."""
    if not samples:
        return ""
    columns = _columns(samples, width)
    charts = [
        _chart("answers a second", [each.load for each in columns], 2, "{:.0f}".format),
        _chart("Ready pods", [each.replicas for each in columns], 5, "{:.0f}".format),
        _chart("instances", [each.instances for each in columns], 5, "{:.0f}".format),
        _chart("USD an hour", [each.dollars for each in columns], 4, "{:.4f}".format),
    ]
    return "\n".join([*charts, _axis(samples[-1].at_s, len(columns))])


def _columns(samples: Sequence[Sample], width: int) -> list[Sample]:
    """The newest look of each column; a column without one shows what the one before it does."""
    count, span = min(width, len(samples)), max(samples[-1].at_s, 1e-9)
    found: list[Sample | None] = [None] * count
    for sample in samples:
        found[min(count - 1, int(sample.at_s / span * count))] = sample
    shown, columns = samples[0], []
    for each in found:
        shown = each or shown
        columns.append(shown)
    return columns


def _chart(title: str, values: Sequence[float], height: int, label: Callable[[float], str]) -> str:
    top = max(values)
    lines = [" " * _MARGIN + title]
    for row in range(height, 0, -1):
        bar = "".join(_cell(value / top * height if top else 0.0, row) for value in values)
        edge = label(top) if row == height else ""
        lines.append(f"{edge:>{_MARGIN - 2}} │{bar}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(level: float, row: int) -> str:
    """The part of a bar of height `level` (in rows) that is in `row` (from 1)."""
    part = min(max(level - (row - 1), 0.0), 1.0)
    return _BLOCKS[max(1, round(part * 8))] if part > 0 else _BLOCKS[0]


def _axis(seconds: float, width: int) -> str:
    """Marks at the begin and the end."""
    line = " " * (_MARGIN - 1) + "└" + "─" * width
    return f"{line}\n{' ' * _MARGIN}{'0 s':<{width}}{seconds:.0f} s"
