"""Stores of prepared images that are kept: paid for from the moment they were made until they are gone. Without I/O.

Such a time is a span of its own (Span.is_of_store). There is no instance, so no hours are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vk_provider.cloud.imagestores import KeptStore
from vk_provider.ledger.resting import TICK_S, Account
from vk_provider.ledger.span import SNAPSHOT, Span, SpanState, owner_of_store, to_nanos

MAX_REMEMBERED = 1_000
"""Stores that are gone."""


class Keeping:
    """Times are Unix seconds."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._open: dict[str, Span] = {}
        """By handle: RUNNING, or UNSURE after a restart until somebody sees it."""
        self._gone: dict[str, float] = {}
        """Until when they were counted: one that is shown again after all goes on there."""

    def restore(self, span: Span) -> None:
        """What an earlier process has left."""
        if span.state in (SpanState.RUNNING, SpanState.UNSURE):  # the process between may have asked nobody
            span.state = SpanState.UNSURE
            self._open[span.instance_id] = span
            self._account.note(span)
        else:
            self._note_gone(span)

    def going(self) -> Iterator[Span]:
        """Those that are paid for now."""
        return (span for span in list(self._open.values()) if span.state is SpanState.RUNNING)

    def take(self, kept: Iterable[KeptStore], now: float) -> None:
        """All that is kept. What is missing was there when it was seen last."""
        listed = {each.handle: each for each in kept}
        for handle, span in list(self._open.items()):
            if handle not in listed:
                self._close(span, span.seen_at, SpanState.MISSING)
        for store in listed.values():
            self._see(store, now)

    def _see(self, store: KeptStore, now: float) -> None:
        span, nanos = self._open.get(store.handle), to_nanos(store.usd_per_hour) or 0
        if span is None:
            made = store.since if 0.0 < store.since <= now else now
            span = self._begin(store, max(made, self._gone.pop(store.handle, 0.0) + TICK_S), nanos)
        elif span.state is not SpanState.RUNNING:
            self._run(span)
        if span.disk_nanos != nanos:  # its size is known by now, or the price is another one
            self._close(span, now, SpanState.PASSED_ON)
            span = self._begin(store, max(now, span.until + TICK_S), nanos)
        span.seen_at = now

    def _begin(self, store: KeptStore, since: float, nanos: int) -> Span:
        span = Span(
            store.handle,
            since,
            since,
            SpanState.RUNNING,
            node="",
            instance_type=SNAPSHOT,
            zone="",
            capacity_type="",
            price_nanos=0,
            owner=owner_of_store(store.key),
            launched=store.since,
            disk_nanos=nanos,
            is_stopped=True,
        )
        self._run(span)
        return span

    def _run(self, span: Span) -> None:
        span.state = SpanState.RUNNING
        self._open[span.instance_id] = span
        self._account.use(span, 1)
        self._account.note(span)

    def _close(self, span: Span, at: float, state: SpanState) -> None:
        is_paid = span.state is SpanState.RUNNING
        del self._open[span.instance_id]
        if is_paid:
            self._account.use(span, -1)
        span.until = max(span.since, at)
        span.state, span.is_estimated = state, state is SpanState.MISSING
        self._account.count(span)
        self._account.note(span)
        self._note_gone(span)
        if is_paid:
            self._account.on_less()

    def _note_gone(self, span: Span) -> None:
        self._gone[span.instance_id] = max(span.until, self._gone.pop(span.instance_id, 0.0))
        if len(self._gone) > MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]
