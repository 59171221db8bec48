"""One difference between two histories, and the name of its kind. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` groups: it holds no names and numbers of a case. `ours` and `theirs` are what the two sides showed."""

    kind: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.kind}\n    here:    {self.ours}\n    kubelet: {self.theirs}"


def difference(kind: str, ours: Any, theirs: Any) -> Difference:
    """One of any two values."""
    return Difference(kind, str(ours), str(theirs))


def generalise(text: str) -> str:
    """A kind's text: numbers, quoted words and names of containers of the grammar taken out."""
    text = re.sub(
        r"\b(main|init\d|bad\d|side\d|late\d|more\d|own\d|ruled\d|peer\d|c\d|bare\d|sized\d|debug)\b", "C", text
    )
    text = re.sub(r"\[C( C)*\]", "[C]", text)
    text = re.sub(r"\d+", "N", text)
    return text if len(text) <= 160 else text[:157] + "..."


def gist(first: Any, second: Any) -> str:
    """Both texts from where they depart from each other."""
    ours, theirs = str(first), str(second)
    start = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    start = max(0, start - 12)
    return f"{ours[start : start + 40]!r} / {theirs[start : start + 40]!r}"
