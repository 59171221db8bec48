"""Decides when an instance or pod that an answer does not list does not exist. Pure: `now` is monotonic seconds.

A cloud's answers are eventually consistent, and a wrong filter, permission or listing makes many vanish at once. So a
name is missing only when two answers apart in time do not list it and none in between does; while many are missing at
once, all answers of a longer time must agree. An answer may be as old as its question: a listing has many pages, and
each may take long.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MISSING_CONFIRM_S = 30.0
"""Minimum time between the two answers."""
MASS_CONFIRM_S = 600.0
"""The same when many are missing at once: longer than most faults of a cloud's control plane."""
MASS_AT_LEAST = 3
MASS_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Absence:
    """missing: does not exist. doubted: not listed, but not yet missing. mass: many are missing at once."""

    missing: frozenset[str]
    doubted: frozenset[str]
    mass: bool


class MissingRule:
    """Keeps since when each name is not listed.

    confirm_s:      minimum time between an answer and the question of a later one
    mass_confirm_s: the same when more than max(MASS_AT_LEAST, MASS_SHARE of all) are missing at once
    """

    def __init__(self, confirm_s: float = MISSING_CONFIRM_S, mass_confirm_s: float = MASS_CONFIRM_S) -> None:
        self._confirm_s = confirm_s
        self._mass_confirm_s = max(confirm_s, mass_confirm_s)
        self._since: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __len__(self) -> int:
        """Names that are currently not listed."""
        return len(self._since)

    def judge(
        self,
        asked: Collection[str],
        named: Collection[str],
        known: int,
        now: float,
        *,
        began: float | None = None,
        others: int = 0,
        explained: Collection[str] = (),
    ) -> Absence:
        """Judge one answer. asked: names that it could list; named: names that it lists; known: number of all names;
        began: when the question was asked, None for now; others: what else it does not list, which counts as many;
        explained: those of `asked` of which it lists why they may be missing, and which are no crowd."""
        for name in named:
            self.forget(name)
        absent = [name for name in asked if name not in named]
        for name in absent:
            self._since.setdefault(name, now)
            self._last[name] = now
        # Not asked for since: its record was removed for another reason.
        for name in [name for name, last in self._last.items() if now - last > self._mass_confirm_s]:
            self.forget(name)
        mass = _is_mass(len(self._since.keys() - set(explained)) + others, known)
        asked_at = now if began is None else began
        wait_s = self._mass_confirm_s if mass else self._confirm_s
        explained_s = self._mass_confirm_s if _is_mass(others, known) else self._confirm_s
        missing = frozenset(
            name for name in absent if asked_at - self._since[name] >= (explained_s if name in explained else wait_s)
        )
        for name in missing:
            self.forget(name)
        return Absence(missing, frozenset(absent) - missing, mass)

    def forget(self, name: str) -> None:
        """The name was listed, or its record was removed."""
        self._since.pop(name, None)
        self._last.pop(name, None)

    def retain(self, names: Collection[str]) -> None:
        """Nobody asks for any other name any more."""
        for name in self._since.keys() - names:
            self.forget(name)

    def reset(self) -> None:
        """Start again, after a failed answer."""
        self._since.clear()
        self._last.clear()


def _is_mass(missing: int, known: int) -> bool:
    return missing > max(MASS_AT_LEAST, MASS_SHARE * known)
