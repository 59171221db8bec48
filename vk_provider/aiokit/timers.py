"""Actions that are due later, and none of them any more after `cancel`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Of the running event loop."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` after so many seconds."""

        def run() -> None:
            self._handles.discard(handle)
            action()

        handle = asyncio.get_running_loop().call_later(delay_s, run)
        self._handles.add(handle)

    def cancel(self) -> None:
        """What is not due yet never happens."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
