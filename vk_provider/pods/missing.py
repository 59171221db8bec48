"""When does "the answer does not name it" mean "it does not exist"? Pure: `now` is in seconds of a monotonic clock.

A cloud's answers are eventually consistent, and a filter, a permission or a listing that breaks makes many vanish at
once. So whoever is not named is missing only when two answers apart in time say so and none between named it; and while
many are missing together nothing is concluded until all answers of a long time agreed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MISSING_CONFIRM_S = 30.0
"""The two answers are at least so far apart."""
MASS_CONFIRM_S = 600.0
"""So long the answers must agree when many are missing together: longer than a cloud's control plane usually errs."""
MASS_AT_LEAST = 3
MASS_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """missing: may be taken for gone. doubted: not named, but nothing is concluded yet. mass: because they are many."""

    missing: frozenset[str]
    doubted: frozenset[str]
    mass: bool


class MissingRule:
    """Remembers since when each name is not in the answers.

    confirm_s:      how far apart two answers must be
    mass_confirm_s: the same when more than max(MASS_AT_LEAST, MASS_SHARE of all) are missing together
    """

    def __init__(self, confirm_s: float = MISSING_CONFIRM_S, mass_confirm_s: float = MASS_CONFIRM_S) -> None:
        self._confirm_s = confirm_s
        self._mass_confirm_s = max(confirm_s, mass_confirm_s)
        self._since: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __len__(self) -> int:
        """How many are not named at present."""
        return len(self._since)

    def judge(self, asked: Collection[str], named: Collection[str], known: int, now: float) -> Verdict:
        """One answer. asked: whom it could have named; named: whom it did name; known: how many there are in all."""
        for name in named:
            self.forget(name)
        absent = [name for name in asked if name not in named]
        for name in absent:
            self._since.setdefault(name, now)
            self._last[name] = now
        # Nobody asked for it since: its record went away by other means.
        for name in [name for name, last in self._last.items() if now - last > self._mass_confirm_s]:
            self.forget(name)
        mass = len(self._since) > max(MASS_AT_LEAST, MASS_SHARE * known)
        wait_s = self._mass_confirm_s if mass else self._confirm_s
        missing = frozenset(name for name in absent if now - self._since[name] >= wait_s)
        for name in missing:
            self.forget(name)
        return Verdict(missing, frozenset(absent) - missing, mass)

    def forget(self, name: str) -> None:
        """It was named, or nobody has to know any more."""
        self._since.pop(name, None)
        self._last.pop(name, None)

    def reset(self) -> None:
        """A failed answer in between: count anew."""
        self._since.clear()
        self._last.clear()
