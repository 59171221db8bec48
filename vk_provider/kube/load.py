"""Whether statuses queue up at the API server: then events, which nobody waits for, go slower.

What counts is how many PATCHes of pod statuses are open at once, those that wait for a connection included. That is
their rate times their latency: it rises when many pods change and when the API server is slow, and says nothing when a
single call to the cloud takes its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STATUS_LABEL = "pods/status"

BUSY_OPEN = 4
"""Status PATCHes open at once. A pod has one; four at the same moment are a burst or a slow API server."""
BUSY_HOLD_S = 1.0
"""In a burst there are moments with few of them; events must not use those."""


class StatusLoad:
    """Counts open status PATCHes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = 0
        self._busy_until = float("-inf")

    def begin(self, label: str) -> None:
        """A request begins; `label` as in paths.RequestInfo.label. `end` follows whatever becomes of it."""
        if label == STATUS_LABEL:
            self._open += 1
            self._note()

    def end(self, label: str) -> None:
        if label == STATUS_LABEL:
            self._note()
            self._open -= 1

    @property
    def is_busy(self) -> bool:
        self._note()
        return self._clock() < self._busy_until

    def _note(self) -> None:
        if self._open >= BUSY_OPEN:
            self._busy_until = self._clock() + BUSY_HOLD_S
