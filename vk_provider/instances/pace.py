"""How fast one verb of the cloud may be called: as fast as it will, until it says that this is too fast.

A throttled call slows the whole queue down, not itself: what waits meanwhile goes into the next call, which is larger.
Each call that passes lets the queue go faster again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from vk_provider.errors import CloudThrottledError

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
SLOWER, FASTER = 2.0, 0.7
NO_PAUSE_S = 0.05
"""A pause below it is none."""


class Pace:
    """`turn` waits for its turn and then is the caller's for one call. `clock`: monotonic seconds.

    at_once: calls that may be under way at the same time
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(at_once)
        self.pause_s = 0.0
        self._next_at = 0.0
        self._slowed = 0

    @property
    def wait_s(self) -> float:
        """Until the next call may begin."""
        return max(0.0, self._next_at - self._clock())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One call. A CloudThrottledError of it slows down what follows, and goes on to the caller."""
        async with self._slots:
            while (wait_s := self.wait_s) > 0:  # noqa: ASYNC110 - others may have slowed it down meanwhile
                await asyncio.sleep(wait_s)
            self._next_at = self._clock() + self.pause_s
            slowed = self._slowed
            try:
                yield
            except CloudThrottledError as error:
                self._slow_down(slowed, error.retry_after_s)
                raise
            self._speed_up(slowed)

    def _slow_down(self, slowed: int, retry_after_s: float) -> None:
        """Calls that were under way together are one sign that it was too fast, however many of them are refused.
        slowed: how often it had been slowed down when the call began."""
        if slowed == self._slowed:
            self._slowed += 1
            self.pause_s = min(MAX_PAUSE_S, max(FIRST_PAUSE_S, self.pause_s * SLOWER))
        self._next_at = max(self._next_at, self._clock() + max(self.pause_s, min(MAX_PAUSE_S, retry_after_s)))

    def _speed_up(self, slowed: int) -> None:
        if slowed != self._slowed:
            return  # it began when calls were faster
        self.pause_s = self.pause_s * FASTER if self.pause_s * FASTER >= NO_PAUSE_S else 0.0
