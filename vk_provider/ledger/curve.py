"""What a spot instance costs over its life. Pure.

A cloud bills a spot instance by periods from its launch on (hours, on EC2): the price in force at the beginning of a
period is that of all of it, whatever happens within.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from math import floor, inf

from vk_provider.cloud.spotprices import SpotOffering, SpotPriceChange
from vk_provider.ledger.meter import ABSENT_S, Meter
from vk_provider.ledger.span import Span, SpanState, to_nanos

MAX_PERIODS = 24 * 91
"""That are looked at in one span: as far back as EC2 knows prices."""


class PriceCurve:
    """Of one offering: steps."""

    def __init__(self, changes: Iterable[tuple[float, float]]) -> None:
        """changes: (Unix seconds, USD an hour from then on)."""
        steps = sorted(changes)
        self._times = [at for at, _ in steps]
        self._prices = [price for _, price in steps]

    def find(self, at: float) -> float | None:
        """None before the first step."""
        place = bisect_right(self._times, at)
        return self._prices[place - 1] if place else None


def build_curves(offered: Iterable[SpotOffering], changes: Iterable[SpotPriceChange]) -> dict[SpotOffering, PriceCurve]:
    """offered: what was asked for. Of that which the cloud knows nothing of, no price is ever found."""
    steps: dict[SpotOffering, list[tuple[float, float]]] = {each: [] for each in offered}
    for each in changes:
        steps.setdefault((each.instance_type, each.zone), []).append((each.at, each.price_per_hour))
    return {offering: PriceCurve(found) for offering, found in steps.items()}


def find_beginnings(span: Span, launched: float, until: float, period_s: float) -> Iterator[float]:
    """When the periods began of which the span has a part and whose price is not final: after span.priced_until, and
    `until` at most. The first one may have begun before the span. Of an instance that runs, those in which it was
    seen: a listing may say later that it had ended before."""
    after = span.priced_until or span.since - period_s
    end = min(until, span.seen_at if span.state is SpanState.RUNNING else span.until)
    number = max(0, floor((after - launched) / period_s) + 1, floor((end - launched) / period_s) - MAX_PERIODS)
    while (began := launched + number * period_s) <= end:
        if began > after and (began < span.until or span.state is SpanState.RUNNING):
            yield began
        number += 1


def find_due(meter: Meter, settled: float, period_s: float) -> tuple[set[SpotOffering], float]:
    """(offerings whose prices are needed, since when). settled: until when the prices are believed to be known."""
    offered, since = set(), inf
    for span in meter.repricing.unpriced.values():
        launched = _find_launch(meter, span)
        first = next(find_beginnings(span, launched, settled, period_s), None) if launched else None
        if first is not None:
            offered.add((span.instance_type, span.zone))
            since = min(since, first)
    return offered, since


def apply_prices(meter: Meter, curves: Mapping[SpotOffering, PriceCurve], settled: float, period_s: float) -> None:
    """Split the spans where a period began with another price. Where the price is not known, it stays as it was."""
    for span in list(meter.repricing.unpriced.values()):
        if span.state is SpanState.UNSURE:
            continue  # whether it runs on, a listing says
        launched = _find_launch(meter, span)
        runs = span.state is SpanState.RUNNING
        if launched:
            curve, rest = curves.get((span.instance_type, span.zone)), span
            beginnings = list(find_beginnings(span, launched, settled, period_s))
            if beginnings and curve is None:
                continue  # nobody asked for it: it was not due yet
            for began in beginnings:
                nanos = to_nanos(curve.find(began) if curve is not None else None)
                if nanos is not None:
                    rest = meter.repricing.reprice(rest, max(began, rest.since), nanos)
            rest.priced_until = min(settled, rest.seen_at if runs else rest.until)
            is_final = not runs and rest.until <= settled
        else:
            rest, is_final = span, not runs and meter.clock() - span.until > ABSENT_S
        if is_final:
            meter.repricing.unpriced.pop(rest.key, None)


def _find_launch(meter: Meter, span: Span) -> float:
    """0.0 where it is not known: of an instance that no listing has shown since an earlier process saw it."""
    if span.launched:
        return span.launched
    newest = meter.find(span.instance_id)
    return newest.launched if newest is not None else 0.0
