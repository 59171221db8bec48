"""Stopped instances: they do not run, and their disks are paid for until they run again or end. Without I/O.

Such a time is a span of its own (Span.is_stopped), for the owner that the instance had when it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from vk_provider.ledger.span import Span, SpanState

TICK_S = 0.001
"""A span begins so much after one of the same instance: both are kept by ID and beginning."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the meter does with a span. note: it has changed; use: it goes on (1), or not any more (-1); count: it is
    over; discount: it is not, or was so at another time or price; on_less: what goes on costs less."""

    note: Callable[[Span], None]
    use: Callable[[Span, int], None]
    count: Callable[[Span], None]
    discount: Callable[[Span], None]
    on_less: Callable[[], None]


class Resting:
    """Times are Unix seconds."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._open: dict[str, Span] = {}
        """By ID: RUNNING, or UNSURE after a restart until somebody sees it."""
        self._ended: dict[str, float] = {}
        """When a stopped instance has ended: a listing may be older."""
        self._restored_at = 0.0

    def restore(self, span: Span, now: float) -> None:
        """What an earlier process has left."""
        self._restored_at = now
        if span.state is SpanState.RUNNING:
            span.state = SpanState.UNSURE
            self._open[span.instance_id] = span
            self._account.note(span)

    def going(self) -> Iterator[Span]:
        """Those that are paid for now."""
        return (span for span in list(self._open.values()) if span.state is SpanState.RUNNING)

    def find(self, instance_id: str) -> Span | None:
        span = self._open.get(instance_id)
        return span if span is not None and span.state is SpanState.RUNNING else None

    def see(self, ran: Span, at: float, now: float) -> None:
        """The instance of `ran` is stopped, since `at` as far as is known."""
        instance_id = ran.instance_id
        span = self._open.get(instance_id)
        if span is None:
            if not ran.disk_nanos or instance_id in self._ended:
                return
            span = replace(
                ran,
                since=max(min(at, now), ran.since + TICK_S),
                price_nanos=0,
                is_stopped=True,
                is_estimated=False,
                is_late=False,
                counted_from=0.0,
                priced_until=0.0,
                burst_nanos=0,
                least_until=0.0,
            )
        if span.state is not SpanState.RUNNING or instance_id not in self._open:
            span.state = SpanState.RUNNING
            self._open[instance_id] = span
            self._account.use(span, 1)
            self._account.note(span)
        span.seen_at = now

    def runs(self, instance_id: str, since: float, now: float) -> None:
        """It runs (again). What was believed to be after that was no stop."""
        self._ended.pop(instance_id, None)
        self._close(instance_id, since, now, SpanState.PASSED_ON)

    def end(self, instance_id: str, at: float, now: float) -> None:
        """It is terminated. at: of its end; where that is not after its stop, nobody says when: as it was seen last."""
        span = self._open.get(instance_id)
        if span is not None:
            self._ended[instance_id] = now
            self._close(instance_id, at if at > span.since else 0.0, now, SpanState.ENDED)

    def missing(self, instance_id: str, now: float) -> None:
        """It does not exist any more."""
        self._close(instance_id, 0.0, now, SpanState.MISSING)

    def take(self, listed: Collection[str], ours: Callable[[str], bool], now: float, absent_s: float) -> None:
        """A complete listing; see Meter.take. absent_s: who is missing for so long has ended."""
        for instance_id, span in list(self._open.items()):
            seen_at = max(span.seen_at, self._restored_at)
            if instance_id not in listed and not ours(instance_id) and now - seen_at > absent_s:
                self.missing(instance_id, now)
        for instance_id, at in list(self._ended.items()):
            if instance_id not in listed and now - at > absent_s:
                del self._ended[instance_id]

    def _close(self, instance_id: str, at: float, now: float, state: SpanState) -> None:
        span = self._open.pop(instance_id, None)
        if span is None:
            return
        is_paid = span.state is SpanState.RUNNING
        if is_paid:
            self._account.use(span, -1)
        span.until = max(span.since, min(at or span.seen_at, now))
        span.state, span.is_estimated = state, not at
        self._account.count(span)
        self._account.note(span)
        if is_paid:
            self._account.on_less()
