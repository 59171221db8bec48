"""Limits how often one place writes to the log, so that whoever causes its messages cannot fill the disk with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from vk_provider.aiokit.ratelimit import TokenBucket


class LimitedLog:
    """Up to `burst` messages at once and `per_minute` of them later; the next one that passes says how many did not."""

    def __init__(
        self,
        log: logging.Logger,
        per_minute: float = 6.0,
        burst: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clock = log, clock
        self._bucket = TokenBucket(per_minute / 60, burst, clock())
        self._held_back = 0

    def warning(self, text: str, *values: object) -> None:
        if not self._bucket.try_take(self._clock()):
            self._held_back += 1
            return
        if self._held_back:
            text, values = f"{text} (and %d messages like it)", (*values, self._held_back)
        self._held_back = 0
        self._log.warning(text, *values)
