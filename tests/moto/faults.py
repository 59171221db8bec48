"""Carries the fault plan out. All is called under the server's lock, but for delays."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from fnmatch import fnmatchcase

from tests.moto.plan import Bucket, Plan, Rule, Shortage

ARRIVALS = 5000
READS = ("Describe", "Get", "List", "Receive")


class Refusal(Exception):
    """An error answer of AWS."""

    def __init__(self, code: str, message: str, status: int = 400, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.retry_after_s = code, message, status, retry_after_s


class Tokens:
    def __init__(self, bucket: Bucket, now: float) -> None:
        self._bucket, self._left, self._at = bucket, bucket.burst, now

    def take(self, amount: float, now: float) -> float:
        """0.0, or the seconds until there would be enough; a refusal takes nothing. More than the bucket holds is
        measured by what it holds."""
        self._left = min(self._bucket.burst, self._left + (now - self._at) * self._bucket.rate)
        self._at = now
        amount = min(amount, self._bucket.burst)
        if self._left >= amount:
            self._left -= amount
            return 0.0
        return (amount - self._left) / max(self._bucket.rate, 1e-9)


class Faults:
    """`calls`: every call that came, by API; `throttled`: those that a bucket has refused; `arrivals`: when the last
    calls came, in Unix seconds, with their API."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.arrivals: deque[tuple[float, str]] = deque(maxlen=ARRIVALS)
        self.throttled: Counter[str] = Counter()
        self.set(Plan())

    def note(self, api: str, at: float) -> None:
        self.calls[api] += 1
        self.arrivals.append((at, api))

    def set(self, plan: Plan) -> None:
        self.plan = plan
        self._random = random.Random(plan.seed)
        self._met: Counter[int] = Counter()
        self._launched: Counter[int] = Counter()
        self._buckets: dict[tuple[str, str], Tokens] = {}

    def find_rule(self, api: str) -> Rule | None:
        """The rule that this call meets."""
        for number, rule in enumerate(self.plan.rules):
            if not fnmatchcase(api, rule.api) or (rule.times and self._met[number] >= rule.times):
                continue
            if rule.share >= 1.0 or self._random.random() < rule.share:
                self._met[number] += 1
                return rule
        return None

    def take_request(self, api: str) -> None:
        """Raises RequestLimitExceeded."""
        name = api if api in self.plan.requests else "" if api.startswith(READS) else "*"
        self._take("requests", name, 1, self.plan.requests.get(name), api)

    def take_resources(self, api: str, count: int) -> None:
        """The other bucket: AWS counts the resources of a call, and refuses the whole of it."""
        self._take("resources", api, count, self.plan.resources.get(api), api)

    def _take(self, kind: str, name: str, amount: float, bucket: Bucket | None, api: str) -> None:
        if bucket is None:
            return
        now = time.monotonic()
        wait_s = self._buckets.setdefault((kind, name), Tokens(bucket, now)).take(amount, now)
        if wait_s:
            self.throttled[api] += 1
            raise Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)

    def room(self, offering: str, wanted: int) -> tuple[int, Shortage | None]:
        """How many instances of an offering may be launched now, and what prevents more."""
        for number, shortage in enumerate(self.plan.shortages):
            if not fnmatchcase(offering, shortage.offering):
                continue
            if shortage.share < 1.0 and self._random.random() >= shortage.share:
                continue
            left = max(0, shortage.room - self._launched[number])
            if left < wanted:
                self._launched[number] += left
                return left, shortage
            self._launched[number] += wanted
        return wanted, None

    def take_room(self, offering: str, wanted: int) -> Shortage | None:
        """Room for all, or what prevents it: then nothing is taken."""
        before = self._launched.copy()
        left, shortage = self.room(offering, wanted)
        if left < wanted:
            self._launched = before
            return shortage
        return None
