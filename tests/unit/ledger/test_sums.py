"""The ledger's sum is the integral of what ran, whatever happens to instances and to the provider."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.model import NAMESPACES, PRICES, Cloud, Process, owner, play
from vk_provider.ledger.ledger import answer_from_tags
from vk_provider.ledger.question import parse_question

SECONDS = st.floats(0.001, 5000.0, allow_nan=False)
KINDS = st.sampled_from(sorted(PRICES))
STEP = st.one_of(
    st.tuples(st.just("launch"), KINDS, st.sampled_from(NAMESPACES)),
    st.tuples(st.just("pass"), SECONDS, st.none()),
    st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from(["call", "silently", "notice", "stop"])),
    st.tuples(st.just("assign"), st.integers(0, 20), st.integers(0, 3)),
    st.tuples(st.just("list"), st.none(), st.none()),
    st.tuples(st.just("flush"), st.none(), st.none()),
)
CRASH = st.tuples(st.just("crash"), SECONDS, st.none())


@settings(max_examples=150)
@given(st.lists(st.one_of(STEP, CRASH), max_size=60))
def test_the_sum_is_the_integral_of_what_ran_over_any_history_with_crashes(steps: list[tuple[str, Any, Any]]) -> None:
    cloud = Cloud()
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/ledger"
        process = Process(cloud, path)
        for step in steps:
            if step[0] == "crash":
                process.store.close()
                cloud.now += step[1]
                process = Process(cloud, path)
                process.list()
            else:
                play(cloud, process, step)
        process.list()
        report = process.cost()
        assert report["total"]["usd"] == pytest.approx(cloud.bill(), rel=1e-9, abs=1e-9)
        assert report["total"]["seconds"] == pytest.approx(sum(map(cloud.seconds, cloud.instances)), abs=1e-4)
        assert report["total"]["estimatedUsd"] == 0
        rate = sum(PRICES[cloud.instances[name].instance_type] for name in cloud.running())
        assert process.meter.usage().nanos == rate * 1e9
        assert process.meter.usage().instances == len(cloud.running())
        process.store.close()


@settings(max_examples=80)
@given(st.lists(STEP, max_size=60))
def test_sums_by_any_key_add_up_to_the_same_and_so_do_the_tags_alone(steps: list[tuple[str, Any, Any]]) -> None:
    cloud = Cloud()
    process = Process(cloud, ":memory:")
    for step in steps:
        play(cloud, process, step)
    process.list()
    total = process.cost()["total"]
    for by in ("pod", "node,type", "label:app", "zone,capacity", "instance"):
        rows = process.cost(by)["rows"]
        assert sum(row["usd"] for row in rows) == pytest.approx(total["usd"])
        assert sum(row["seconds"] for row in rows) == pytest.approx(total["seconds"])
    for row in process.cost("instance")["rows"]:
        assert row["seconds"] == pytest.approx(cloud.seconds(row["key"][0]), abs=1e-4)
    counted = process.meter.counted().values()
    assert sum(each.usd for each in counted) == pytest.approx(total["usd"])
    question = parse_question({"since": "365d"}, cloud.now)
    tagged = answer_from_tags(cloud.instances.values(), process.meter.prices.price_of, question, cloud.now)
    assert tagged["total"]["usd"] == pytest.approx(total["usd"])
    by_namespace = {row["key"][0]: row["usd"] for row in process.cost()["rows"]}
    assert {row["key"][0]: row["usd"] for row in tagged["rows"]} == pytest.approx(by_namespace)
    process.store.close()


class Crash(BaseException):
    """kill -9."""


class Dying:
    """An SQLite connection that dies before its statement number `at`."""

    def __init__(self, connection: Any, at: int) -> None:
        self._connection, self._left = connection, at

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash

    def execute(self, *arguments: Any) -> Any:
        if arguments[0] != "ROLLBACK":  # a dead process does nothing; SQLite's recovery does the same
            self._count()
        return self._connection.execute(*arguments)

    def executemany(self, sql: str, rows: Iterator[Any]) -> None:
        for row in rows:
            self._count()
            self._connection.execute(sql, row)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def close(self) -> None:
        self._connection.close()


def test_a_crash_between_any_two_writes_loses_only_what_came_after_the_last_one(tmp_path: Path) -> None:
    crashed, at = True, 0
    while crashed:
        cloud, path = Cloud(), str(tmp_path / f"ledger-{at}")
        first = Process(cloud, path)
        stays, ends, forgotten = (first.cloud.launch(kind) for kind in ("small", "large", "small"))
        for instance in (stays, ends, forgotten):
            first.meter.see(instance)
        cloud.now += 1000
        first.flush()
        cloud.now += 500
        cloud.end(ends.instance_id)
        first.meter.ended(ends.instance_id)
        first.meter.see(cloud.launch("large", "lab"))
        cloud.now += 100
        cloud.end(forgotten.instance_id)
        first.meter.ended(forgotten.instance_id)
        first.meter.assign(stays.instance_id, owner("shop", "p"))
        first.store._connection = Dying(first.store._connection, at)
        crashed = False
        try:
            first.flush()
        except Crash:
            crashed = True
        first.store.close()
        truth = cloud.bill()
        # Listed no more: what is known of it is what was written.
        lost = 600.0 / 3600 * PRICES["small"] if crashed else 0.0
        del cloud.instances[forgotten.instance_id]
        second = Process(cloud, path)
        second.list()
        assert second.usd() == pytest.approx(truth - lost), at
        cloud.now += 700
        second.list()  # nobody has seen the forgotten one for ten minutes
        assert second.usd() == pytest.approx(truth - lost + 700 / 3600 * (PRICES["small"] + PRICES["large"]))
        estimated = second.cost()["total"]["estimatedUsd"]
        assert estimated == pytest.approx(1000 / 3600 * PRICES["small"] if crashed else 0.0)
        second.store.close()
        at += 1
    assert at > 5, "every statement of the transaction was the last one once"


@pytest.mark.parametrize("twice", [lambda p: p.flush(), lambda p: p.list(), lambda p: (p.flush(), p.list(), p.flush())])
def test_what_is_told_twice_counts_once(twice: Callable[[Process], object]) -> None:
    cloud = Cloud()
    process = Process(cloud, ":memory:")
    process.meter.see(cloud.launch())
    cloud.now += 3600
    twice(process)
    twice(process)
    process.meter.see(cloud.instances["i-0"])
    assert process.usd() == pytest.approx(0.25)
    assert len(process.cost("instance")["rows"]) == 1
