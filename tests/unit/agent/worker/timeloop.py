"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and always in the same way."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingSelector(selectors.DefaultSelector):
    """Does not wait: the time that it was asked to wait has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self.passed_s += max(0.0, timeout)
        return super().select(0)


class TimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_s


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a clock that begins at 0 and jumps."""
    with asyncio.Runner(loop_factory=TimeLoop) as runner:
        return runner.run(work)
