"""Whether status PATCHes queue up at the API server: then events, which are less urgent, are sent at a lower rate.

The measure is the number of open PATCHes of pod statuses, including those that wait for a connection. It is their rate
times their latency: it rises when many pods change and when the API server is slow, and does not depend on calls to
the cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STATUS_LABEL = "pods/status"

BUSY_OPEN = 4
"""Open status PATCHes. A pod has at most one; four at once mean a burst or a slow API server."""
BUSY_HOLD_S = 1.0
"""A burst has moments with few open PATCHes; events must not fill them."""


class StatusLoad:
    """Counts open status PATCHes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = 0
        self._busy_until = float("-inf")

    def begin(self, label: str) -> None:
        """A request begins; `label` as in paths.RequestInfo.label. `end` follows also when it fails."""
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
