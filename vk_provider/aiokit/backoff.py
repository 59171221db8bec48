"""Exponential back-off with jitter, as a value."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays first_s, first_s*factor, ... up to max_s, each +-jitter (fraction). `reset` after a success."""

    first_s: float
    max_s: float
    factor: float = 2.0
    jitter: float = 0.1
    _next_s: float = field(default=0.0, init=False)

    def next_delay_s(self) -> float:
        delay = self._next_s or self.first_s
        self._next_s = min(self.max_s, delay * self.factor)
        return delay * (1 + random.uniform(-self.jitter, self.jitter))

    def reset(self) -> None:
        self._next_s = 0.0
