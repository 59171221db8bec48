"""What the disks of stopped instances cost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.model import PRICES, Cloud, Process, owner
from vk_provider.cloud.base import TAG_POOL, InstanceState
from vk_provider.ledger.ledger import answer_from_tags
from vk_provider.ledger.meter import ABSENT_S
from vk_provider.ledger.question import parse_question
from vk_provider.ledger.store import LedgerStore, LedgerStoreError

DISK = 0.01
"""USD an hour of the disks of each instance."""


class WithDisks(Process):
    def make_meter(self) -> None:
        self.meter.prices.disk_price_of = lambda instance: DISK


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def process(cloud: Cloud) -> Process:
    return WithDisks(cloud, ":memory:")


def stop(cloud: Cloud, process: Process, name: str = "i-0") -> None:
    cloud.end(name, InstanceState.STOPPED)
    process.list()


def start(cloud: Cloud, name: str = "i-0") -> None:
    instance = cloud.instances[name]
    cloud.instances[name] = replace(instance, state=InstanceState.RUNNING, launch_time=cloud.now, ended_at=0.0)


def terminate(cloud: Cloud, name: str = "i-0") -> None:
    cloud.instances[name] = replace(cloud.instances[name], state=InstanceState.TERMINATED, ended_at=cloud.now)


def test_a_running_instance_costs_its_disks_too(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 3600
    total = process.cost()["total"]
    assert total["usd"] == pytest.approx(PRICES["small"] + DISK) and total["diskUsd"] == pytest.approx(DISK)
    assert process.meter.usage().nanos == round((PRICES["small"] + DISK) * 1e9)
    assert sum(process.meter.rates().values()) == pytest.approx(PRICES["small"] + DISK)


def test_a_stopped_one_costs_its_disks_alone_and_counts_no_hours(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch(namespace="", **{TAG_POOL: "web"}))
    cloud.now += 60
    stop(cloud, process)
    usage = process.meter.usage("")
    assert (usage.instances, usage.nanos) == (0, round(DISK * 1e9)) and process.meter.namespaces() == [""]
    cloud.now += 7200
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(60) and total["instances"] == 1
    assert total["usd"] == pytest.approx(60 / 3600 * (PRICES["small"] + DISK) + 2 * DISK, abs=1e-6)
    assert total["diskUsd"] == pytest.approx(60 / 3600 * DISK + 2 * DISK, abs=1e-6)
    (counted,) = process.meter.counted().values()
    assert counted.usd == pytest.approx(total["usd"]) and counted.seconds == pytest.approx(60)


def test_the_disks_of_a_pods_instance_that_was_powered_off_are_the_pods(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    process.meter.assign("i-0", owner("shop", "web"))
    cloud.now += 60
    stop(cloud, process)
    cloud.now += 3600
    (row,) = process.cost("pod")["rows"]
    assert row["key"] == ["shop/web"] and row["diskUsd"] == pytest.approx(DISK * 3660 / 3600, abs=1e-6)


def test_it_is_over_when_it_runs_again_and_when_it_ends(cloud: Cloud, process: Process) -> None:
    less: list[float] = []
    process.meter.on_less = lambda: less.append(cloud.now)
    process.meter.see(cloud.launch())
    cloud.now += 60
    stop(cloud, process)
    cloud.now += 3600
    start(cloud)
    process.meter.started(cloud.instances["i-0"])
    assert process.meter.usage().instances == 1 and not list(process.meter.resting())
    cloud.now += 60
    stop(cloud, process)
    cloud.now += 3600
    before = len(less)
    process.meter.ended("i-0")
    assert process.meter.usage().nanos == 0 and len(less) == before + 1
    stale = cloud.instances["i-0"]
    terminate(cloud)
    cloud.now += 3600
    process.meter.take([stale], lambda _: False)
    process.list()
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(120) and total["estimatedUsd"] == 0
    assert total["diskUsd"] == pytest.approx(DISK * 7320 / 3600, abs=1e-6)


def test_what_was_no_stop_costs_nothing_twice(cloud: Cloud, process: Process) -> None:
    """A notice said so, and the listing says that it ran all the time."""
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.told("i-0", InstanceState.STOPPED)
    assert len(list(process.meter.resting())) == 1
    cloud.now += 100
    process.list()
    assert not list(process.meter.resting()) and process.meter.usage().instances == 1
    assert process.usd() == pytest.approx(160 / 3600 * (PRICES["small"] + DISK), abs=1e-9)


def test_one_that_vanishes_is_counted_until_it_was_seen(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    stop(cloud, process)
    cloud.now += 3600
    process.list()
    cloud.instances.clear()
    cloud.now += ABSENT_S + 1
    process.list()
    total = process.cost()["total"]
    assert total["diskUsd"] == pytest.approx(DISK * 3660 / 3600, abs=1e-6) and total["estimatedUsd"] > 0
    assert process.meter.usage().nanos == 0


@pytest.mark.parametrize("then", ["stopped", "running", "terminated", "gone"])
def test_a_restart_counts_what_was_stopped_meanwhile(cloud: Cloud, tmp_path: Any, then: str) -> None:
    path = f"{tmp_path}/ledger"
    first = WithDisks(cloud, path)
    first.meter.see(cloud.launch())
    cloud.now += 60
    stop(cloud, first)
    cloud.now += 3600
    first.flush()
    first.store.close()
    cloud.now += 1800
    if then == "running":
        start(cloud)
    elif then == "terminated":
        terminate(cloud)
    elif then == "gone":
        cloud.instances.clear()
    cloud.now += 1800
    second = WithDisks(cloud, path)
    second.list()
    hours = {"stopped": 2.0, "running": 2.0, "terminated": 1.5, "gone": 1.0}[then]
    if then == "gone":
        cloud.now += ABSENT_S + 1
        second.list()
    total = second.cost()["total"]
    assert total["diskUsd"] == pytest.approx(DISK * (hours + 60 / 3600), abs=1e-6)
    assert total["seconds"] == pytest.approx(60 + (1800 if then == "running" else 0))
    assert (total["estimatedUsd"] > 0) is (then == "gone")
    second.store.close()


STEP = st.tuples(st.sampled_from(["launch", "stop", "start", "end", "pass", "list", "crash"]), st.integers(0, 9))


@settings(max_examples=150)
@given(st.lists(STEP, max_size=50))
def test_over_any_history_disks_are_paid_for_from_the_launch_to_the_end(steps: list[tuple[str, int]]) -> None:
    """Each change is followed by a listing; a crash may come after any."""
    cloud, path = Cloud(), ":memory:"
    process: Process = WithDisks(cloud, path)
    began: dict[str, float] = {}
    ran = paid = 0.0

    def of(state: InstanceState, number: int) -> str | None:
        names = [name for name, each in cloud.instances.items() if each.state is state]
        return names[number % len(names)] if names else None

    for verb, number in steps:
        name = of(InstanceState.STOPPED if verb == "start" else InstanceState.RUNNING, number)
        if verb == "launch":
            name = cloud.launch().instance_id
            began[name] = cloud.now
        elif verb == "stop" and name:
            cloud.end(name, InstanceState.STOPPED)
        elif verb == "start" and name:
            start(cloud, name)
        elif verb == "end":
            name = name or of(InstanceState.STOPPED, number)
            if name:
                terminate(cloud, name)
                del began[name]
        elif verb == "crash":
            process.flush()
            store = process.store
            process = WithDisks.__new__(WithDisks)
            process.cloud, process.store = cloud, store
            process.meter = type(process).__mro__[1](cloud, ":memory:").meter
            process.make_meter()
            process.meter.restore(store.load())
        process.list()
        seconds = float(number * 17)
        ran += seconds * len(cloud.running())
        paid += seconds * len(began)
        cloud.now += seconds
    process.list()
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(ran, abs=0.1)
    assert total["diskUsd"] == pytest.approx(paid / 3600 * DISK, abs=1e-5)
    assert total["estimatedUsd"] == 0
    stopped = sum(each.state is InstanceState.STOPPED for each in cloud.instances.values())
    rate = len(cloud.running()) * (PRICES["small"] + DISK) + stopped * DISK
    assert process.meter.usage().nanos == round(rate * 1e9)
    process.store.close()


def test_the_tags_alone_say_the_same_of_the_last_stop(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 600
    stop(cloud, process)
    cloud.now += 3600
    question = parse_question({"since": "365d"}, cloud.now)
    tagged = answer_from_tags(
        cloud.instances.values(),
        process.meter.prices.price_of,
        question,
        cloud.now,
        disk_price_of=lambda instance: DISK,
    )
    assert tagged["total"]["usd"] == pytest.approx(process.usd(), abs=1e-6)
    assert tagged["total"]["diskUsd"] == pytest.approx(process.cost()["total"]["diskUsd"], abs=1e-6)


OF_2, OF_3 = ("disk_nanos", "is_stopped"), ("burst_nanos", "least_until", "ran_until")


@pytest.mark.parametrize("missing", [(*OF_2, *OF_3), ("is_stopped", *OF_3), OF_3, ("ran_until",), ()])
def test_a_file_of_schema_1_is_taken_over_also_where_that_was_cut_off(
    cloud: Cloud, tmp_path: Any, missing: tuple[str, ...]
) -> None:
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    first.meter.see(cloud.launch())
    cloud.now += 3600
    first.flush()
    first.store.close()
    with sqlite3.connect(path) as connection:
        for column in missing:
            connection.execute(f"ALTER TABLE spans DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(LedgerStoreError, match="cloud.owner"):
        LedgerStore(path, "other").open()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,), "of another owner: left alone"
    store = LedgerStore(path, "test")
    assert store.open() == ""
    (span,) = store.load()
    assert (span.disk_nanos, span.is_stopped) == (0, False)
    store.close()
    second = WithDisks(cloud, path)
    second.list()
    assert second.usd() == pytest.approx(PRICES["small"])
    second.store.close()
