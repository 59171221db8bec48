"""Whether what pods wait for queues up at the API server: then events, which are less urgent, are sent at a lower rate.

The measure is the number of open PATCHes of pod statuses and of open final DELETEs of pods, including those that wait
for a connection. It is their rate times their latency: it rises when many pods change and when the API server is slow,
and does not depend on calls to the cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vk_provider.kube.paths import RequestInfo

BUSY_OPEN = 4
"""Open requests. A pod has at most one; four at once mean a burst or a slow API server."""
BUSY_HOLD_S = 1.0
"""A burst has moments with few open requests; events must not fill them."""


class PodLoad:
    """Counts the open ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = 0
        self._busy_until = float("-inf")

    def begin(self, request: RequestInfo) -> None:
        """A request begins. `end` follows also when it fails."""
        if _counts(request):
            self._open += 1
            self._note()

    def end(self, request: RequestInfo) -> None:
        if _counts(request):
            self._note()
            self._open -= 1

    @property
    def is_busy(self) -> bool:
        self._note()
        return self._clock() < self._busy_until

    def _note(self) -> None:
        if self._open >= BUSY_OPEN:
            self._busy_until = self._clock() + BUSY_HOLD_S


def _counts(request: RequestInfo) -> bool:
    if request.resource != "pods" or request.group:
        return False
    return request.verb == "delete" or (request.verb == "patch" and request.subresource == "status")
