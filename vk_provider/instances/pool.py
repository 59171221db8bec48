"""A pool at work: its size now, when it is filled up next, and which of its offerings a pod may take."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Offering
from vk_provider.instances.demand import Demand
from vk_provider.sizing.pool import PoolSpec, compute_count
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal

FOLLOWED_S = 300.0
"""How long a pod that asked for an instance counts for the size of its pool."""
QUIET_S, QUIET_LIMIT_S = 2.0, 10.0
"""Pause after a pod has taken an instance, before another is launched, while pods follow each other; and its limit.
What starts has the calls to itself, and on the local cloud the machine."""


@dataclass(slots=True, eq=False)
class Pool:
    """asked: when pods asked for an instance. calls: the prepared stores of those under way, "" for none. taken_at:
    when the first was taken since the last call, 0.0 for none. resume_at: no call before; stop_at: no stop before;
    renew_at: none is replaced for its images before. Times are time.monotonic()."""

    spec: PoolSpec
    preferences: Preferences
    paths: tuple[str, ...]
    digest: str
    asked: deque[float] = field(default_factory=deque)
    calls: list[str] = field(default_factory=list)
    taken_at: float = 0.0
    resume_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(5.0, 300.0))
    stop_at: float = 0.0
    renew_at: float = 0.0
    stop_backoff: Backoff = field(default_factory=lambda: Backoff(5.0, 300.0))

    def note_taken(self) -> None:
        now = time.monotonic()
        self.asked.append(now)
        self.taken_at = self.taken_at or now
        self.resume_at = max(self.resume_at, min(now + QUIET_S, self.taken_at + QUIET_LIMIT_S))

    def count(self) -> int:
        since = time.monotonic() - FOLLOWED_S
        while self.asked and self.asked[0] < since:
            self.asked.popleft()
        return compute_count(self.spec, time.time(), len(self.asked))


class Fit:
    """Which offerings a pod may take from which pool; each is judged once."""

    def __init__(self, selector: OfferingSelector, demand: Demand) -> None:
        self._selector, self._demand = selector, demand
        self._known: dict[tuple[str, Offering], bool] = {}

    def judge(self, pool: Pool, offering: Offering) -> bool:
        key = pool.spec.name, offering
        if key not in self._known:
            self._known[key] = self._judge(pool, offering)
        return self._known[key]

    def _judge(self, pool: Pool, offering: Offering) -> bool:
        pod, spec = self._demand.pod, pool.spec
        choice = self._selector.select(pod, frozenset(), pool.preferences)
        if isinstance(choice, Refusal):
            return False
        steady = choice.steady_cpu_milli
        if offering.compute_price(steady) > spec.price_factor * choice.offering.compute_price(steady):
            return False
        return self._selector.fits(pod, offering, spec.disk_bytes, pool.preferences)
