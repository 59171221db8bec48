"""What an instance costs: by its description when it is seen, and again when its price is known, or another one.

Without I/O. Prices are whole nano-USD an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vk_provider.cloud.base import Instance, OfferingKey
from vk_provider.cloud.tags import read_steady_cpu
from vk_provider.ledger.resting import Account
from vk_provider.ledger.span import PLAIN_TERMS, RunTerms, Span, SpanState, to_nanos

SPOT = "spot"

PriceOf = Callable[[Instance], float | None]
"""USD an hour; None when it is not known."""


@dataclass(slots=True)
class Prices:
    """price_of: of an instance without its disks; disk_price_of: of these. What terms.burst_price_of says is in
    price_of."""

    price_of: PriceOf
    disk_price_of: PriceOf = lambda instance: 0.0
    terms: RunTerms = PLAIN_TERMS

    def find(self, instance: Instance) -> int | None:
        """Of the instance without its disks; None when no price is known."""
        return to_nanos(self.price_of(instance))

    def find_disks(self, instance: Instance) -> int:
        return to_nanos(self.disk_price_of(instance)) or 0

    def find_burst(self, instance: Instance) -> int:
        """The part of its price that is for CPU above its baseline, as far as its tags say it."""
        key = instance.instance_type, instance.zone, instance.capacity_type
        return self._find_burst(key, read_steady_cpu(instance.tags))

    def find_burst_with(self, span: Span, steady_cpu_milli: int) -> int:
        """The same for another use of CPU."""
        return self._find_burst((span.instance_type, span.zone, span.capacity_type), steady_cpu_milli)

    def _find_burst(self, key: OfferingKey, steady_cpu_milli: int) -> int:
        return to_nanos(self.terms.burst_price_of(key, steady_cpu_milli)) or 0

    def find_least_until(self, launched: float) -> float:
        """Until when a run that began then is paid for, also when it ends before; 0.0 for no such time."""
        return launched + self.terms.least_run_s if self.terms.least_run_s else 0.0


class Repricing:
    """Gives spans another price than they began with.

    is_running: whether it is the span in which its instance runs; put: the second takes the place of the first as the
    newest of its instance, if that is the newest
    follows_spot: somebody follows spot prices; unpriced: then the spans whose price may not be final, by (ID, since)
    """

    def __init__(
        self,
        prices: Prices,
        account: Account,
        is_running: Callable[[Span], bool],
        put: Callable[[Span, Span], None],
    ) -> None:
        self._prices, self._account = prices, account
        self._is_running, self._put = is_running, put
        self.follows_spot = False
        self.unpriced: dict[tuple[str, float], Span] = {}

    def watch(self, span: Span) -> None:
        """It has begun, or has changed."""
        if self.follows_spot and span.capacity_type == SPOT and not span.is_late:
            self.unpriced[span.key] = span

    def find_unpriced_end(self) -> float | None:
        """The earliest end of those that do not run any more."""
        ends = (span.until for span in self.unpriced.values() if span.state is not SpanState.RUNNING)
        return min(ends, default=None)

    def complete(self, span: Span, instance: Instance) -> None:
        """Find the prices of an offering that was not known when the span began, and may be now. They are those of all
        of it. It runs."""
        nanos = self._prices.find(instance)
        if nanos is not None:
            self._account.use(span, -1)
            span.disk_nanos = span.disk_nanos or self._prices.find_disks(instance)
            span.burst_nanos = self._prices.find_burst(instance)
            self._account.use(span, 1)
            self.reprice(span, span.since, nanos - span.burst_nanos)

    def reprice(self, span: Span, at: float, price_nanos: int) -> Span:
        """It has had this price from `at` on, within it, and what its CPU costs beside that. Returns the span that
        begins there, or the whole of it."""
        price_nanos += span.burst_nanos
        if price_nanos == span.price_nanos:
            return span
        account, runs, less = self._account, self._is_running(span), price_nanos < (span.price_nanos or 0)
        if runs:
            account.use(span, -1)
        else:
            account.discount(span)
        rest = span
        if at > span.since:
            rest = replace(span, since=at)
            self._put(span, rest)
            self.unpriced.pop(span.key, None)
            span.until, span.state, span.is_estimated = at, SpanState.PASSED_ON, False
            account.count(span)
            account.note(span)
        rest.price_nanos = price_nanos
        if runs:
            account.use(rest, 1)
        else:
            account.count(rest)
        account.note(rest)
        self.watch(rest)
        if runs and less:
            account.on_less()
        return rest
