"""Permits that are held for a limited time: a few at once, and nobody can keep one from the others for ever."""

from __future__ import annotations

import asyncio


class Permits:
    """count: held at once; hold_s: after this a permit counts as given back"""

    def __init__(self, count: int, hold_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._hold_s = hold_s

    async def acquire(self) -> Permit:
        await self._free.acquire()
        return Permit(self._free, self._hold_s)


class Permit:
    def __init__(self, free: asyncio.Semaphore, hold_s: float) -> None:
        self._free = free
        self._is_held = True
        self._limit = asyncio.get_running_loop().call_later(hold_s, self.release)

    def release(self) -> None:
        """Idempotent."""
        if self._is_held:
            self._is_held = False
            self._limit.cancel()
            self._free.release()
