"""A token bucket; time is an argument. Pure."""

from __future__ import annotations


class TokenBucket:
    """`rate` tokens a second, at most `burst` of them saved up. Times are seconds of one clock."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), now

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount` tokens; returns how many seconds the caller has to wait for its turn (0: go at once)."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, now: float) -> bool:
        """Take one when there is one; never goes into debt."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def full_in_s(self, now: float) -> float:
        """Seconds until all that may be is saved up again."""
        self._refill(now)
        return (self._burst - self._tokens) / self._rate

    def _refill(self, now: float) -> None:
        # A clock that was set back takes no tokens away.
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
