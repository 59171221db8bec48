"""Spot prices change while instances run: the ledger has a span for each price, and its sum is the cloud's bill."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger import model
from tests.unit.ledger.model import BEGAN, Cloud, Process
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.spotprices import SpotOffering, SpotPriceChange
from vk_provider.errors import CloudError
from vk_provider.ledger.curve import PriceCurve, apply_prices, build_curves, find_beginnings
from vk_provider.ledger.ledger import answer_from_tags
from vk_provider.ledger.question import parse_question
from vk_provider.ledger.span import SpanState
from vk_provider.ledger.spot import SETTLE_S, SpotPricing

HOUR = 3600.0
KINDS = ("small", "large")


class SpotCloud(Cloud):
    """A cloud of spot instances; changes: of the price by kind, as (time, USD an hour)."""

    period_s = HOUR

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, list[tuple[float, float]]] = {kind: [(BEGAN - 7200, 0.1)] for kind in KINDS}
        self.asked: list[tuple[frozenset[SpotOffering], float]] = []
        self.is_broken = False

    def launch(self, kind: str = "small", namespace: str = "shop", **more: str) -> Instance:
        made = replace(super().launch(kind, namespace, **more), capacity_type="spot")
        self.instances[made.instance_id] = made
        return made

    def change(self, kind: str, price: float) -> None:
        """There is one price at a time."""
        self.changes[kind] = [each for each in self.changes[kind] if each[0] != self.now] + [(self.now, price)]

    async def fetch_changes(self, offered: Collection[SpotOffering], since: float) -> list[SpotPriceChange]:
        """As DescribeSpotPriceHistory: with the change before."""
        self.asked.append((frozenset(offered), since))
        if self.is_broken:
            raise CloudError("RequestLimitExceeded")
        found = []
        for kind, zone in offered:
            before = [each for each in self.changes[kind] if each[0] <= since][-1:]
            after = [each for each in self.changes[kind] if since < each[0] <= self.now]
            found += [SpotPriceChange(kind, zone, at, price) for at, price in before + after]
        return found

    def price_at(self, kind: str, at: float) -> float:
        return [price for since, price in self.changes[kind] if since <= at][-1]

    def bill(self) -> float:
        """Hour by hour of each instance, at the price of the hour's beginning."""
        total = 0.0
        for each in self.instances.values():
            began, end = each.launch_time, each.ended_at or self.now
            while began < end:
                total += (min(end, began + HOUR) - began) / HOUR * self.price_at(each.instance_type, began)
                began += HOUR
        return total


class SpotProcess(Process):
    """A process that follows spot prices. The catalog's price may be as old as its process."""

    def __init__(self, cloud: SpotCloud, path: str) -> None:
        self.spot_cloud = cloud
        super().__init__(cloud, path)

    def make_meter(self) -> None:
        first = {kind: self.spot_cloud.price_at(kind, self.spot_cloud.now) for kind in KINDS}
        self.meter.prices.price_of = lambda instance: first[instance.instance_type]
        self.spot = SpotPricing(self.meter, self.spot_cloud)


async def test_a_new_price_is_a_new_span_from_the_next_hour_of_the_instance_on() -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    process.meter.see(cloud.launch())
    cloud.now += 1800
    cloud.change("small", 0.2)
    cloud.now += 1000
    await process.spot.refresh()
    assert process.meter.usage().nanos == 1e8, "the price of the hour's beginning holds until its end"
    cloud.now += 1000 + SETTLE_S
    process.list()
    await process.spot.refresh()
    (first, second) = process.store_spans()
    assert (first.state, first.since, first.until, first.price_nanos) == (
        SpanState.PASSED_ON,
        BEGAN,
        BEGAN + HOUR,
        100_000_000,
    )
    assert (second.state, second.since, second.price_nanos) == (SpanState.RUNNING, BEGAN + HOUR, 200_000_000)
    assert process.meter.usage().nanos == 2e8 and process.meter.usage().instances == 1
    assert process.usd() == pytest.approx(cloud.bill())


async def test_only_what_is_due_is_asked_for_and_from_the_hours_beginning_on() -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    await process.spot.refresh()
    process.meter.see(cloud.launch())
    await process.spot.refresh()
    assert cloud.asked == [], "the launch is no longer ago than prices take"
    cloud.now += SETTLE_S
    process.list()
    for _ in range(3):
        await process.spot.refresh()
    assert cloud.asked == [(frozenset({("small", "z1")}), BEGAN)]
    cloud.now += HOUR
    process.list()
    await process.spot.refresh()
    assert cloud.asked[1:] == [(frozenset({("small", "z1")}), BEGAN + HOUR)]


async def test_the_price_that_the_catalog_knew_at_the_launch_is_corrected() -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    cloud.change("small", 0.3)
    process.meter.see(cloud.launch())
    assert process.meter.usage().nanos == 1e8
    less: list[str] = []
    process.meter.on_less = lambda: less.append("less")
    cloud.now += 600
    process.list()
    await process.spot.refresh()
    assert process.meter.usage().nanos == 3e8 and len(process.store_spans()) == 1 and less == []
    cloud.change("small", 0.05)
    cloud.now += HOUR
    process.list()
    await process.spot.refresh()
    assert process.meter.usage().nanos == 5e7 and less == ["less"], "there is room in the budget again"


async def test_while_prices_are_not_told_they_stay_and_are_made_up_for_later(caplog: pytest.LogCaptureFixture) -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    name = process.see_new()
    cloud.now += 1800
    cloud.change("small", 0.4)
    cloud.is_broken = True
    for _ in range(5):
        cloud.now += 1800
        process.list()
        await process.spot.refresh()
    assert caplog.text.count("spot prices are not followed") == 1
    cloud.end(name)
    process.meter.ended(name)
    cloud.now += 7200
    process.list()
    cloud.is_broken = False
    await process.spot.refresh()
    assert process.usd() == pytest.approx(cloud.bill()) and not process.meter.repricing.unpriced
    counted = process.meter.counted().values()
    assert sum(each.usd for each in counted) == pytest.approx(cloud.bill())


async def test_after_a_restart_the_history_since_the_last_span_is_asked_for_once(tmp_path: Any) -> None:
    cloud = SpotCloud()
    first = SpotProcess(cloud, str(tmp_path / "ledger"))
    first.see_new()
    cloud.now += HOUR + SETTLE_S
    first.list()
    await first.spot.refresh()
    first.flush()
    first.store.close()
    for price in (0.5, 0.7):
        cloud.now += 2 * HOUR
        cloud.change("small", price)
    cloud.now += HOUR
    cloud.asked.clear()
    second = SpotProcess(cloud, str(tmp_path / "ledger"))
    await second.spot.refresh()
    assert [span.state for span in second.meter.repricing.unpriced.values()] == [SpanState.UNSURE]
    second.list()
    for _ in range(3):
        await second.spot.refresh()
    assert [since for _, since in cloud.asked[-1:]] == [BEGAN] and len(cloud.asked) <= 2
    assert second.usd() == pytest.approx(cloud.bill())
    second.store.close()


STEP = st.one_of(
    st.tuples(st.just("launch"), st.sampled_from(KINDS), st.sampled_from(("shop", "lab"))),
    st.tuples(st.just("pass"), st.floats(1.0, 9000.0), st.none()),
    st.tuples(st.just("pass"), st.floats(1.0, 9000.0), st.none()),
    st.tuples(st.just("price"), st.sampled_from(KINDS), st.sampled_from((0.05, 0.1, 0.2, 0.35))),
    st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from(["call", "silently"])),
    st.tuples(st.just("assign"), st.integers(0, 20), st.integers(0, 3)),
    st.tuples(st.just("list"), st.none(), st.none()),
    st.tuples(st.just("refresh"), st.booleans(), st.none()),
    st.tuples(st.just("flush"), st.none(), st.none()),
    st.tuples(st.just("crash"), st.floats(1.0, 9000.0), st.none()),
)


async def play(cloud: SpotCloud, process: SpotProcess, step: tuple[str, Any, Any], path: str) -> SpotProcess:
    verb, first, second = step
    if verb == "price":
        cloud.change(first, second)
    elif verb == "refresh":
        cloud.is_broken = first
        await process.spot.refresh()
        cloud.is_broken = False
    elif verb == "crash":
        process.flush()
        process.store.close()
        cloud.now += first
        process = SpotProcess(cloud, path)
        process.list()
    else:
        model.play(cloud, process, step)
    return process


@settings(max_examples=100)
@given(st.lists(STEP, max_size=50))
def test_the_sum_over_the_spans_is_the_integral_of_the_prices_whatever_happens(
    steps: list[tuple[str, Any, Any]],
) -> None:
    asyncio.run(check_sum(steps))


async def check_sum(steps: list[tuple[str, Any, Any]]) -> None:
    cloud = SpotCloud()
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/ledger"
        process = SpotProcess(cloud, path)
        for step in steps:
            process = await play(cloud, process, step, path)
        process.list()
        now = cloud.now
        for name in cloud.running():
            cloud.end(name)
        process.list()
        cloud.now += SETTLE_S
        await process.spot.refresh()
        report = process.cost()
        assert report["total"]["usd"] == pytest.approx(cloud.bill(), rel=1e-9, abs=1e-9)
        assert report["total"]["seconds"] == pytest.approx(sum(map(cloud.seconds, cloud.instances)), abs=1e-4)
        assert process.meter.usage().nanos == 0 and not process.meter.repricing.unpriced
        for each in process.cost("instance")["rows"]:
            assert each["seconds"] == pytest.approx(cloud.seconds(each["key"][0]), abs=1e-4)
        offered = {(kind, "z1") for kind in KINDS}
        curves = build_curves(offered, await cloud.fetch_changes(offered, BEGAN))
        tagged = answer_from_tags(
            cloud.instances.values(),
            process.meter.prices.price_of,
            parse_question({"since": "365d"}, cloud.now),
            now,
            lambda meter: apply_prices(meter, curves, now, HOUR),
        )
        assert tagged["total"]["usd"] == pytest.approx(cloud.bill(), rel=1e-9, abs=1e-9)
        process.store.close()


def test_a_curve_is_a_step_from_each_change_on() -> None:
    curve = PriceCurve([(20.0, 0.2), (10.0, 0.1)])
    assert [curve.find(at) for at in (9.9, 10.0, 19.9, 20.0, 99.0)] == [None, 0.1, 0.1, 0.2, 0.2]


async def test_a_span_of_years_is_looked_at_as_far_back_as_prices_are_known() -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    process.see_new()
    cloud.now += 3 * 365 * 86400
    process.list()
    (span,) = process.meter.running()
    beginnings = list(find_beginnings(span, BEGAN, cloud.now, HOUR))
    assert len(beginnings) <= 24 * 91 + 1 and cloud.now - HOUR < beginnings[-1] <= cloud.now


async def test_an_instance_on_demand_costs_what_it_did() -> None:
    cloud = SpotCloud()
    process = SpotProcess(cloud, ":memory:")
    made = replace(cloud.launch(), capacity_type="on-demand")
    cloud.instances[made.instance_id] = made
    process.meter.see(made)
    cloud.change("small", 9.0)
    cloud.now += 2 * HOUR
    process.list()
    await process.spot.refresh()
    assert cloud.asked == [] and process.meter.usage().nanos == 1e8
    assert made.state is InstanceState.RUNNING
