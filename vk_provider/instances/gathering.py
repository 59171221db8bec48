"""How long demands are gathered before they share a launch call, on a cloud where calls are scarce.

One pod alone waits for nobody. While calls follow each other, the pause between two of them doubles, so that a burst of
pods, however slowly they come in, is a few calls of growing groups; it shrinks again while no call is made. Nobody
waits longer for others than `limit_s`: groups that have nothing in common do not hold each other up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.1


class Gathering:
    """limit_s: of the pause, and of each wait; 0.0: nothing is gathered. `clock`: monotonic seconds."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._pause_s = FIRST_PAUSE_S
        self._next_at = float("-inf")

    def wait_s(self, since: float) -> float:
        """Until a call may be made for those of whom the first has waited since then."""
        if not self._limit_s:
            return 0.0
        return max(0.0, min(self._next_at, since + self._limit_s) - self._clock())

    def note_call(self, is_alone: bool = False) -> None:
        """One is made now. is_alone: for one pod, while no other waits."""
        if not self._limit_s:
            return
        now = self._clock()
        quiet_s = now - self._next_at
        if is_alone:
            self._pause_s = FIRST_PAUSE_S
        elif quiet_s < self._pause_s:
            self._pause_s = min(self._limit_s, self._pause_s * 2)
        else:
            self._pause_s = max(FIRST_PAUSE_S, self._pause_s / 2 ** min(10.0, quiet_s // self._pause_s))
        self._next_at = now + self._pause_s
