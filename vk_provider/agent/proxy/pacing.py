"""When a table that somebody else has changed is mended: soon, and ever later while he does it again. Pure."""

from __future__ import annotations

from vk_provider.aiokit.backoff import Backoff

FIRST_S, MAX_S, FACTOR = 0.05, 60.0, 3.0
"""The first one waits for the other's next transaction: few change a table by one alone."""
QUIET_S = 300.0
"""So long after the last time the next change counts as the first again."""


class MendPacing:
    """`due` for a change that was noticed at `now_s`, in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._backoff = Backoff(FIRST_S, MAX_S, FACTOR, jitter=0.0)
        self._last_s: float | None = None

    def due_s(self, now_s: float) -> float:
        """When to mend what was changed now."""
        if self._last_s is not None and now_s - self._last_s > QUIET_S:
            self._backoff.reset()
        self._last_s = now_s + self._backoff.next_delay_s()
        return self._last_s
