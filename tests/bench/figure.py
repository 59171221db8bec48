"""One measured figure, and the goal that it is held against."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its unit.

    goal:    bound that the value should keep; None: there is none, it is for comparison
    most:    True: the value should be at most the goal, False: at least
    samples: what the value is the median of, in the same unit; empty for a ratio or count of one run
    note:    what it says in one line; detail: more numbers, for machines
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True
    samples: tuple[float, ...] = ()
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is kept, None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal

    @property
    def goal_text(self) -> str:
        if self.goal is None:
            return ""
        return f"{'<=' if self.most else '>='} {self.goal:g}"

    def to_json(self) -> str:
        """One line, without what is empty."""
        document: dict[str, Any] = {"name": self.name, "value": tidy(self.value), "unit": self.unit}
        if self.goal is not None:
            document |= {"goal": self.goal_text, "met": self.met}
        if self.samples:
            document["samples"] = [tidy(sample) for sample in self.samples]
        if self.note:
            document["note"] = self.note
        if self.detail:
            document["detail"] = self.detail
        return json.dumps(document)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Figure:
        """What `to_json` wrote, decoded."""
        most, _, goal = document.get("goal", "").partition(" ")
        return cls(
            document["name"],
            document["value"],
            document["unit"],
            goal=float(goal) if goal else None,
            most=most != ">=",
            samples=tuple(document.get("samples", ())),
            note=document.get("note", ""),
            detail=document.get("detail", {}),
        )


def median_figure(name: str, samples: Sequence[float], unit: str, **more: Any) -> Figure:
    """The median of `samples`."""
    return Figure(name, statistics.median(samples), unit, samples=tuple(samples), **more)


def tidy(value: float) -> float:
    """Four significant digits: more would pretend a precision that a shared machine does not have."""
    return float(f"{value:.4g}")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0-1) of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
