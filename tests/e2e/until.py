"""Waiting for what nothing announces, with a limit far above what is usual: the machine may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
LIMIT_S = 90.0


def until(
    what: str,
    look: Callable[[], Found],
    limit_s: float = LIMIT_S,
    every_s: float = 0.25,
    explain: Callable[[], object] | None = None,
) -> Found:
    """The first truthy value of `look`. AssertionError with `what`, the last value and `explain()` after limit_s."""
    deadline = time.monotonic() + limit_s
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            detail = f"\n{explain()}" if explain else ""
            raise AssertionError(f"not within {limit_s:.0f} s: {what} (last seen: {value!r}){detail}")
        time.sleep(every_s)
