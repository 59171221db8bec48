"""USD an hour over time, by namespace, from a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vk_provider.ledger.span import NANOS
from vk_provider.ledger.store import LedgerStore

MAX_STEPS = 200
_SQL = f"""
WITH RECURSIVE steps(number, since, until) AS (
    SELECT 0, ?1, ?1 + ?2
    UNION ALL SELECT number + 1, until, until + ?2 FROM steps WHERE number + 1 < ?3
),
recent AS MATERIALIZED (
    SELECT namespace, COALESCE(price_nanos, 0) + disk_nanos AS nanos, since, COALESCE(until, ?4) AS until FROM spans
    WHERE (until > ?1 OR until IS NULL) AND COALESCE(price_nanos, 0) + disk_nanos > 0
)
SELECT number, namespace, SUM((MIN(recent.until, steps.until) - MAX(recent.since, steps.since)) * nanos)
    / ?2 / {NANOS}
FROM steps JOIN recent ON recent.since < steps.until AND recent.until > steps.since
GROUP BY number, namespace
"""


@dataclass(frozen=True, slots=True)
class History:
    """step_s: length of a step. rates: namespace -> mean USD an hour of each step, the oldest first."""

    since: float
    step_s: float
    rates: dict[str, list[float]]


def ask_history(store: LedgerStore, since: float, until: float, steps: int) -> History:
    """Raises LedgerStoreError."""
    steps = max(1, min(steps, MAX_STEPS))
    step_s = (until - since) / steps
    rates: dict[str, list[float]] = {}
    rows: list[Any] = store.ask(_SQL, (since, step_s, steps, store.counted_until))
    for number, namespace, rate in rows:
        rates.setdefault(namespace, [0.0] * steps)[number] = rate
    return History(since, step_s, rates)
