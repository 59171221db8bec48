"""Whether this machine kept up: how late a task of the tester was woken.

Two pods are compared within tolerances of a few seconds. A pair that was played while processes waited for seconds for
a CPU says nothing about either node.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

BEAT_S = 0.1
KEPT = 6000
"""Beats: ten minutes, longer than any pair takes."""
LATE_S = 1.5
"""Well below what statuses may be apart (compare.TOLERANCE_S): a pair with a later beat is played again."""
QUIET_S = 4.0
QUIET_LIMIT_S = 180.0
"""How long a pair is put off while the machine does not keep up."""


class Pulse:
    """`run` beats until it is cancelled."""

    def __init__(self) -> None:
        self._beats: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._noted = asyncio.Event()

    async def run(self) -> None:
        """Never returns."""
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.note(due, time.monotonic())

    async def await_quiet(self) -> None:
        """Wait until no beat has been late for a while; not for ever, as it may never be quiet here."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_LIMIT_S):
                while self.worst_since(time.monotonic() - QUIET_S) > LATE_S / 2:
                    self._noted.clear()
                    await self._noted.wait()

    def note(self, due: float, came: float) -> None:
        """A beat that was due and came at these monotonic times."""
        self._beats.append((came, came - due))
        self._noted.set()

    def worst_since(self, moment: float) -> float:
        """How late the latest beat was, in seconds; the one that is due now counts when it comes."""
        return max((late for came, late in self._beats if came >= moment), default=0.0)
