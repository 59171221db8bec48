"""What prepared images cost: their builders, and the snapshots that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.ledger.model import NODE, PRICES, Cloud, Process
from vk_provider.cloud.base import TAG_IMAGE_SET, Instance, InstanceState
from vk_provider.cloud.imagestores import KeptStore
from vk_provider.ledger.ledger import answer_from_tags
from vk_provider.ledger.question import answer, parse_question
from vk_provider.ledger.span import PREPARED_IMAGES

PRICE = 0.02


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def process(cloud: Cloud, tmp_path: Path) -> Process:
    return Process(cloud, str(tmp_path / "ledger"))


def snapshot(cloud: Cloud, name: str = "snap-1", price: float = PRICE, age_s: float = 0.0) -> KeptStore:
    return KeptStore(name, "set-1", cloud.now - age_s, price)


def builder(cloud: Cloud) -> Instance:
    tags = {TAG_IMAGE_SET: "set-1"}
    return Instance("i-b", InstanceState.RUNNING, "small", "z1", "on-demand", "amd64", "", "", cloud.now, tags)


def test_a_builder_is_in_the_bill_under_a_name_that_no_namespace_has(cloud: Cloud, process: Process) -> None:
    process.meter.see(builder(cloud))
    cloud.now += 1800
    (row,) = process.cost("pod")["rows"]
    assert row["key"] == [f"{PREPARED_IMAGES}/set-1"] and row["instances"] == 1 and row["seconds"] == 1800
    assert row["usd"] == pytest.approx(PRICES["small"] / 2)
    assert process.meter.rates() == {(PREPARED_IMAGES, "on-demand"): PRICES["small"]}
    assert process.meter.usage().instances == 1 and process.meter.namespaces() == [PREPARED_IMAGES]


def test_a_snapshot_costs_while_it_is_kept_and_is_no_instance(cloud: Cloud, process: Process) -> None:
    process.meter.keep([snapshot(cloud)])
    cloud.now += 7200
    total = process.cost()["total"]
    assert (total["instances"], total["seconds"]) == (0, 0.0)
    assert total["usd"] == total["diskUsd"] == pytest.approx(2 * PRICE)
    usage = process.meter.usage(PREPARED_IMAGES)
    assert (usage.instances, usage.nanos) == (0, round(PRICE * 1e9)) == (0, process.meter.usage().nanos)
    process.meter.keep([replace(snapshot(cloud), since=cloud.now - 7200)])
    process.meter.keep([])
    cloud.now += 7200
    assert process.usd() == pytest.approx(2 * PRICE) and process.meter.usage().nanos == 0
    (counted,) = process.meter.counted().values()
    assert counted.usd == pytest.approx(2 * PRICE) and counted.seconds == 0.0


def test_one_that_is_missing_in_one_look_was_there_all_the_time(cloud: Cloud, process: Process) -> None:
    first = snapshot(cloud)
    for kept in ([first], [], [first]):
        process.meter.keep(kept)
        cloud.now += 3600
    # It was last seen at the beginning of the first hour, and is believed to be there again from then on.
    assert process.usd() == pytest.approx(3 * PRICE, abs=1e-6)


def test_another_price_counts_from_when_it_is_known(cloud: Cloud, process: Process) -> None:
    process.meter.keep([snapshot(cloud)])
    cloud.now += 3600
    process.meter.keep([snapshot(cloud, price=2 * PRICE)])
    cloud.now += 3600
    assert process.usd() == pytest.approx(3 * PRICE, abs=1e-6)
    assert process.meter.usage().nanos == round(2 * PRICE * 1e9)


def test_a_restart_neither_loses_nor_doubles_it(cloud: Cloud, process: Process, tmp_path: Path) -> None:
    kept = snapshot(cloud)
    process.meter.keep([kept])
    cloud.now += 3600
    process.flush()
    process.store.close()
    cloud.now += 3600
    after = Process(cloud, str(tmp_path / "ledger"))
    assert after.meter.usage().nanos == 0, "nobody knows whether it is there"
    after.meter.keep([kept])
    cloud.now += 3600
    assert after.usd() == pytest.approx(3 * PRICE) and after.cost()["total"]["estimatedUsd"] == 0.0
    (counted,) = after.meter.counted().values()
    assert counted.usd == pytest.approx(2 * PRICE)


def test_a_process_that_asks_for_no_stores_leaves_them_to_the_next_one(
    cloud: Cloud, process: Process, tmp_path: Path
) -> None:
    kept = snapshot(cloud)
    process.meter.keep([kept])
    cloud.now += 3600
    process.meter.keep([replace(kept, usd_per_hour=2 * PRICE)])
    process.flush()
    process.store.close()
    between = Process(cloud, str(tmp_path / "ledger"))
    between.flush()
    cloud.now += 7200
    between.flush()
    between.store.close()
    after = Process(cloud, str(tmp_path / "ledger"))
    after.meter.keep([replace(kept, usd_per_hour=2 * PRICE)])
    assert after.usd() == pytest.approx(PRICE + 2 * 2 * PRICE, abs=1e-6), "it was there all the time, and once"
    cloud.now += 3600
    assert after.usd() == pytest.approx(PRICE + 3 * 2 * PRICE, abs=1e-6)
    after.store.close()


def test_what_was_kept_before_anybody_counted_is_in_the_bill(cloud: Cloud, process: Process) -> None:
    process.meter.keep([snapshot(cloud, age_s=3600)])
    assert process.usd() == pytest.approx(PRICE)


def test_what_is_of_no_node_is_in_the_answer_of_one(cloud: Cloud, process: Process) -> None:
    process.see_new()
    process.meter.keep([snapshot(cloud)])
    cloud.now += 3600
    process.flush()
    question = parse_question({"by": "node"}, cloud.now, NODE)
    assert [row["key"] for row in answer(process.store, question)["rows"]] == [[NODE]]
    for besides in ((), ("another",)):
        with_own = answer(process.store, replace(question, besides=besides))
        assert [row["key"] for row in with_own["rows"]] == [[NODE], [""]]
    assert [row["key"] for row in answer(process.store, replace(question, besides=(NODE,)))["rows"]] == [[""]]
    assert answer(process.store, replace(question, node="another"))["rows"] == []


def test_the_clouds_listing_alone_has_both(cloud: Cloud) -> None:
    made, kept = builder(cloud), snapshot(cloud)
    cloud.now += 3600
    question = parse_question({"by": "namespace"}, cloud.now)
    report = answer_from_tags([made], lambda _: 0.25, question, cloud.now, kept=[kept])
    assert [row["key"] for row in report["rows"]] == [[PREPARED_IMAGES]]
    assert report["total"]["usd"] == pytest.approx(0.25 + PRICE)
