"""A least time of each run, and CPU above the baseline of a burstable type."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.model import PRICES, Cloud, Process, owner, play
from tests.unit.ledger.test_spot import SpotCloud, SpotProcess
from tests.unit.ledger.test_sums import CRASH, STEP
from vk_provider.cloud.base import TAG_STEADY_CPU, InstanceState, OfferingKey
from vk_provider.ledger.ledger import answer_from_tags
from vk_provider.ledger.question import parse_question
from vk_provider.ledger.span import RunTerms
from vk_provider.ledger.spot import SETTLE_S

MINUTE = 60.0


def burst_price(key: OfferingKey, cpu_milli: int) -> float:
    return max(0, cpu_milli - 400) / 1000 * 0.05


TERMS = RunTerms(burst_price, MINUTE)


class Billed(Process):
    def make_meter(self) -> None:
        self.meter.prices.terms = TERMS


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def process(cloud: Cloud) -> Billed:
    return Billed(cloud, ":memory:")


def paid_seconds(cloud: Cloud, name: str) -> float:
    ended = cloud.instances[name].ended_at
    return max(MINUTE, cloud.seconds(name)) if ended else cloud.seconds(name)


@settings(max_examples=150)
@given(st.lists(st.one_of(STEP, STEP, CRASH, st.tuples(st.just("pass"), st.floats(0.5, 50.0), st.none())), max_size=60))
def test_each_run_is_a_minute_at_least_over_any_history_with_crashes(steps: list[tuple[str, Any, Any]]) -> None:
    cloud = Cloud()
    with tempfile.TemporaryDirectory() as directory:
        process = Billed(cloud, f"{directory}/ledger")
        for step in steps:
            if step[0] == "crash":
                process.store.close()
                cloud.now += step[1]
                process = Billed(cloud, f"{directory}/ledger")
                process.list()
            else:
                play(cloud, process, step)
        process.list()
        cloud.now += MINUTE  # what is paid for ahead is in the sum when it is past
        total = process.cost()["total"]
        paid = {name: paid_seconds(cloud, name) for name in cloud.instances}
        assert total["seconds"] == pytest.approx(sum(paid.values()), abs=1e-4)
        usd = sum(seconds / 3600 * PRICES[cloud.instances[name].instance_type] for name, seconds in paid.items())
        assert total["usd"] == pytest.approx(usd, rel=1e-9, abs=1e-9)
        question = parse_question({"since": "365d"}, cloud.now)
        price_of = process.meter.prices.price_of
        tagged = answer_from_tags(cloud.instances.values(), price_of, question, cloud.now, terms=TERMS)
        assert tagged["total"]["usd"] == pytest.approx(usd, rel=1e-9, abs=1e-9)
        process.store.close()


def test_without_such_a_term_a_second_is_a_second(cloud: Cloud) -> None:
    process = Process(cloud, ":memory:")
    name = process.see_new()
    cloud.now += 5
    process.meter.ended(name)
    cloud.now += MINUTE
    assert process.cost()["total"]["seconds"] == 5


def test_the_metric_counts_the_rest_of_the_minute_as_the_run_ends_and_once(cloud: Cloud, process: Billed) -> None:
    name = process.see_new()
    cloud.now += 5
    process.meter.ended(name)
    (counted,) = process.meter.counted().values()
    assert (counted.seconds, counted.usd) == (MINUTE, pytest.approx(0.25 / 60))
    process.meter.runs_on(name)
    cloud.now += 100
    (counted,) = process.meter.counted().values()
    assert counted.seconds == 105


def test_the_last_owner_of_a_short_run_pays_the_rest_of_the_minute(cloud: Cloud, process: Billed) -> None:
    made = cloud.launch(namespace="")
    process.meter.see(made)
    cloud.now += 10
    process.meter.assign(made.instance_id, owner("shop", "web"))
    cloud.now += 10
    process.meter.ended(made.instance_id)
    cloud.now += MINUTE
    seconds = {row["key"][0]: row["seconds"] for row in process.cost()["rows"]}
    assert seconds == {"": 10, "shop": 50}


def test_each_start_of_a_stopped_instance_is_a_minute_of_its_own(cloud: Cloud, process: Billed) -> None:
    """Whether the start is seen, or told by who has asked for it; and a restart between them changes nothing."""
    made = process.cloud.launch()
    process.meter.see(made)
    runs = 1
    for is_told in (False, True):
        cloud.now += 10
        cloud.instances["i-0"] = replace(made, state=InstanceState.STOPPED, ended_at=cloud.now)
        process.list()
        cloud.now += 10  # within the minute
        again = replace(made, launch_time=cloud.now)
        cloud.instances["i-0"] = again
        if is_told:
            process.meter.started(made)
        process.list()
        runs += 1
    cloud.now += 10
    cloud.instances["i-0"] = replace(again, state=InstanceState.TERMINATED, ended_at=cloud.now)
    process.list()
    cloud.now += MINUTE
    assert runs == 3 and process.cost()["total"]["seconds"] == 3 * MINUTE


def test_a_stop_within_the_minute_is_known_as_such_after_a_restart(cloud: Cloud, tmp_path: Any) -> None:
    first = Billed(cloud, f"{tmp_path}/ledger")
    made = cloud.launch()
    first.meter.see(made)
    cloud.now += 10
    cloud.instances["i-0"] = replace(made, state=InstanceState.STOPPED, ended_at=cloud.now)
    first.list()
    first.flush()
    first.store.close()
    cloud.now += 10
    cloud.instances["i-0"] = replace(made, launch_time=cloud.now)
    cloud.now += 1000
    second = Billed(cloud, f"{tmp_path}/ledger")
    second.list()
    assert second.cost()["total"]["seconds"] == MINUTE + 1000


def test_what_vanishes_within_its_first_minute_is_paid_for_a_minute(cloud: Cloud, process: Billed) -> None:
    name = process.see_new()
    process.meter.missing(name)
    cloud.now += MINUTE
    assert process.cost()["total"]["seconds"] == MINUTE


def test_what_a_pod_needs_of_a_burstable_type_is_in_its_price_from_the_assignment_on(
    cloud: Cloud, process: Billed
) -> None:
    made = cloud.launch(namespace="")
    process.meter.see(made)
    cloud.now += 3600
    process.meter.assign(made.instance_id, owner("shop", "web"), 1000)
    cloud.now += 3600
    usd = {row["key"][0]: row["usd"] for row in process.cost()["rows"]}
    assert usd == {"": pytest.approx(0.25), "shop": pytest.approx(0.28)}
    assert process.meter.usage().nanos == 280_000_000


async def test_a_spot_price_that_changes_leaves_what_the_cpu_costs_also_after_a_restart(tmp_path: Any) -> None:
    class BilledSpot(SpotProcess):
        def make_meter(self) -> None:
            super().make_meter()
            self.meter.prices.terms = TERMS
            plain = self.meter.prices.price_of
            self.meter.prices.price_of = lambda instance: (plain(instance) or 0.0) + burst_price(("", "", ""), 1000)

    cloud, path = SpotCloud(), f"{tmp_path}/ledger"
    process = BilledSpot(cloud, path)
    made = cloud.launch()
    made = cloud.instances[made.instance_id] = replace(made, tags={**made.tags, TAG_STEADY_CPU: "1000"})
    process.meter.see(made)
    cloud.now += 1800
    cloud.change("small", 0.2)
    cloud.now += 1800 + 2 * SETTLE_S
    process.list()
    await process.spot.refresh()
    assert process.meter.usage().nanos == 230_000_000
    process.flush()
    process.store.close()
    cloud.change("small", 0.3)
    cloud.now += 3600 + SETTLE_S
    process = BilledSpot(cloud, path)
    process.list()
    await process.spot.refresh()
    assert process.meter.usage().nanos == 330_000_000
    process.store.close()


async def test_the_part_for_cpu_of_a_price_that_is_found_late_stays_when_the_spot_price_changes(tmp_path: Any) -> None:
    known: list[OfferingKey] = []

    class BilledSpot(SpotProcess):
        def make_meter(self) -> None:
            super().make_meter()
            self.meter.prices.terms = RunTerms(lambda key, cpu: burst_price(key, cpu) if known else 0.0)
            plain = self.meter.prices.price_of
            self.meter.prices.price_of = lambda instance: (plain(instance) or 0.0) + 0.03 if known else None

    cloud = SpotCloud()
    process = BilledSpot(cloud, f"{tmp_path}/ledger")
    made = cloud.launch()
    cloud.instances[made.instance_id] = replace(made, tags={**made.tags, TAG_STEADY_CPU: "1000"})
    process.list()
    assert process.meter.usage().nanos == 0
    known.append(("small", "z1", "spot"))
    process.list()
    first = process.meter.usage().nanos
    cloud.now += 1800
    cloud.change("small", 0.2)
    cloud.now += 1800 + 2 * SETTLE_S
    process.list()
    await process.spot.refresh()
    assert first and process.meter.usage().nanos == 230_000_000
    process.store.close()
