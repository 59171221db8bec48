"""USD an hour over time by namespace, as stacked areas in SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from vk_provider.page.facts import CostHistory
from vk_provider.page.markup import Markup, cut, join, tag

WIDTH, HEIGHT = 960, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
MAX_SERIES = 7
OTHERS = "others"
MARKS = 6
"""Times below the chart."""
FACTORS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Axes end with one of these times a power of ten."""


def rank_namespaces(history: CostHistory) -> list[tuple[str, Sequence[float]]]:
    """The dearest MAX_SERIES, and the sum of the others."""
    ranked = sorted(history.rates.items(), key=lambda item: (-sum(item[1]), item[0]))
    shown: list[tuple[str, Sequence[float]]] = [(name or "(spare)", rates) for name, rates in ranked[:MAX_SERIES]]
    rest = [rates for _, rates in ranked[MAX_SERIES:]]
    if rest:
        shown.append((OTHERS, [sum(step) for step in zip(*rest, strict=True)]))
    return shown


def draw_history(history: CostHistory) -> Markup:
    """The chart with its legend."""
    series = rank_namespaces(history)
    steps = max((len(rates) for _, rates in series), default=0)
    if steps < 2:
        return tag("p", "Nothing has run yet.", class_="empty")
    sums = [sum(rates[step] for _, rates in series) for step in range(steps)]
    top = round_up(max(sums))
    areas, below = [], [0.0] * steps
    for number, (name, rates) in enumerate(series):
        above = [low + rate for low, rate in zip(below, rates, strict=True)]
        points = [*_line(above, top), *reversed(_line(below, top))]
        written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        areas.append(tag("polygon", tag("title", cut(name)), points=written, class_=f"series s{number}"))
        below = above
    text = f"USD an hour over the last {_span(history.step_s * steps)}, by namespace; {sums[-1]:.4f} at the end"
    drawing = tag(
        "svg",
        tag("title", text),
        *_grid(top),
        *areas,
        *_times(history, steps),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="chart",
    )
    legend = tag(
        "ul",
        *(
            tag("li", tag("span", class_=f"swatch s{number}"), cut(name), tag("b", f"${rates[-1]:.4f}"))
            for number, (name, rates) in enumerate(series)
        ),
        class_="legend",
    )
    return join((drawing, legend))


def round_up(value: float) -> float:
    """The next round number: 1, 2, 3, 4, 5, 6 or 8 times a power of ten."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in FACTORS if factor * power >= value * (1 - 1e-9))


def _line(values: Sequence[float], top: float) -> list[tuple[float, float]]:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    last = len(values) - 1
    return [(LEFT + width * step / last, TOP + height * (1 - value / top)) for step, value in enumerate(values)]


def _grid(top: float) -> list[Markup]:
    drawn = []
    for number in range(5):
        y = TOP + (HEIGHT - TOP - BOTTOM) * number / 4
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        label = f"${top * (4 - number) / 4:.4g}"
        drawn.append(tag("text", label, x=LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end", class_="axis"))
    return drawn


def _times(history: CostHistory, steps: int) -> list[Markup]:
    width, length_s = WIDTH - LEFT - RIGHT, history.step_s * steps
    form = "%H:%M" if length_s <= 2 * 86400 else "%d %b"
    return [
        tag(
            "text",
            datetime.fromtimestamp(history.since + length_s * number / MARKS, UTC).strftime(form),
            x=f"{LEFT + width * number / MARKS:.1f}",
            y=HEIGHT - 8,
            text_anchor="start" if number == 0 else "end" if number == MARKS else "middle",
            class_="axis",
        )
        for number in range(MARKS + 1)
    ]


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"


def draw_bar(share: float, title: str) -> Markup:
    """A bar of a table's row. share: from 0 to 1; what is above is full."""
    filled = 100 * max(0.0, min(1.0, share))
    return tag(
        "svg",
        tag("title", title),
        tag("rect", width=100, height=8, rx=2, class_="rail"),
        tag("rect", width=f"{filled:.1f}", height=8, rx=2, class_="fill" if share < 0.9 else "fill high"),
        viewBox="0 0 100 8",
        role="img",
        preserveAspectRatio="none",
        class_="bar",
    )
