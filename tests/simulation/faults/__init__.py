"""Known faults, to be put back: each must be found by the seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """put_back: changes the provider's code in this process. found_by: a seed that finds it; breaks: the invariant."""

    put_back: Callable[[], None]
    found_by: int
    breaks: str


FAULTS: dict[str, Fault] = {}
