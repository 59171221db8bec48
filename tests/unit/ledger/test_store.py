"""The file: what is wrong with it is named, and nothing of it stops the provider."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.ledger.model import Cloud, Process, owner
from vk_provider.ledger.ledger import Ledger, LedgerRules
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.metrics import LedgerMetrics
from vk_provider.ledger.question import answer, parse_question
from vk_provider.ledger.store import LedgerStore, LedgerStoreError, open_for_reading


def make(cloud: Cloud, path: str, registry: CollectorRegistry | None = None, max_bytes: int = 2**30) -> Ledger:
    meter = Meter(lambda _: 1.0, cloud.clock)
    rules = LedgerRules(path, "test", 30 * 86400.0, max_bytes, 10.0)
    return Ledger(meter, rules, LedgerMetrics(registry or CollectorRegistry()))


async def total_of(ledger: Ledger, cloud: Cloud) -> float:
    return (await ledger.cost(parse_question({"since": "365d"}, cloud.now)))["total"]["usd"]


async def test_a_ledger_goes_on_where_the_one_before_has_stopped(tmp_path: Path) -> None:
    cloud, path = Cloud(), str(tmp_path / "state" / "ledger")
    first = make(cloud, path)
    await first.load()
    first.meter.see(cloud.launch())
    first.meter.assign("i-0", owner("shop", "web", app="web"))
    cloud.now += 3600
    await first.close()
    cloud.now += 3600
    second = make(cloud, path)
    await second.load()
    second.meter.take(cloud.instances.values(), lambda _: False)
    assert await total_of(second, cloud) == pytest.approx(2.0)
    report = await second.cost(parse_question({"by": "label:app,pod"}, cloud.now))
    assert [row["key"] for row in report["rows"]] == [["web", "shop/web"]]
    assert os.stat(path).st_mode & 0o777 == 0o600
    await second.close()


async def test_a_corrupt_file_is_set_aside_and_what_runs_is_counted_from_its_launch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, path = Cloud(), tmp_path / "ledger"
    path.write_bytes(b"no database " * 1000)
    cloud.launch()
    cloud.now += 3600
    ledger = make(cloud, str(path))
    await ledger.load()
    ledger.meter.take(cloud.instances.values(), lambda _: False)
    assert await total_of(ledger, cloud) == pytest.approx(1.0)
    assert not ledger.problem and "was corrupt" in caplog.text
    assert (tmp_path / "ledger.corrupt").read_bytes().startswith(b"no database")
    await ledger.close()


@pytest.mark.parametrize("damage", ["schema", "owner", "directory"])
async def test_a_file_that_is_not_ours_is_left_alone_and_named(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, path = Cloud(), tmp_path / "ledger"
    if damage == "directory":
        path.mkdir()
    else:
        store = LedgerStore(str(path), "other" if damage == "owner" else "test")
        store.open()
        store.close()
        if damage == "schema":
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA user_version = 99")
            connection.close()
    registry = CollectorRegistry()
    ledger = make(cloud, str(path), registry)
    await ledger.load()
    assert str(path) in ledger.problem and ledger.problem in caplog.text
    assert registry.get_sample_value("vk_ledger_failed") == 1
    ledger.meter.see(cloud.launch())
    cloud.now += 3600
    assert await total_of(ledger, cloud) == pytest.approx(1.0), "this process knows what it has counted"
    report = await ledger.cost(parse_question({}, cloud.now))
    assert ledger.problem in report["notes"]
    await ledger.close()
    if damage == "schema":
        with pytest.raises(LedgerStoreError, match="schema 99"):
            open_for_reading(str(path))


async def test_a_full_disk_is_named_once_and_nothing_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud, path = Cloud(), str(tmp_path / "ledger")
    registry = CollectorRegistry()
    ledger = make(cloud, path, registry)
    await ledger.load()
    connection = ledger._store._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(300):
        ledger.meter.see(cloud.launch())
        ledger.meter.assign(f"i-{number}", owner("shop", f"pod-{number}"))
    for _ in range(3):
        assert not await ledger.flush()
    assert caplog.text.count("cannot be used: database or disk is full") == 1
    assert registry.get_sample_value("vk_ledger_failed") == 1
    assert registry.get_sample_value("vk_ledger_unwritten") == 300
    cloud.now += 3600
    connection.execute("PRAGMA max_page_count = 1000000")
    assert await ledger.flush() and not ledger.problem
    assert registry.get_sample_value("vk_ledger_failed") == 0
    assert await total_of(ledger, cloud) == pytest.approx(300.0)
    await ledger.close()


async def test_a_flush_that_is_cancelled_is_made_up_for(tmp_path: Path) -> None:
    cloud = Cloud()
    ledger = make(cloud, str(tmp_path / "ledger"))
    await ledger.load()
    ledger.meter.see(cloud.launch())
    flushing = asyncio.create_task(ledger.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    assert ledger.meter.changed
    cloud.now += 3600
    assert await total_of(ledger, cloud) == pytest.approx(1.0)
    await ledger.close()


def test_what_is_old_makes_room(tmp_path: Path) -> None:
    cloud = Cloud()
    process = Process(cloud, str(tmp_path / "ledger"))
    for number in range(4000):
        process.meter.see(cloud.launch())
        cloud.now += 10
        if number < 3990:
            process.meter.ended(f"i-{number}")
    process.flush()
    before = process.store.used_bytes
    assert process.store.prune(cloud.now - 20_000, 2**40) > 1000
    assert process.store.used_bytes < before
    process.store.prune(0.0, 1)
    assert len(process.store.load()) == 10, "what runs is never forgotten"
    process.store.close()


def test_a_reader_sees_what_was_written_while_the_provider_writes(tmp_path: Path) -> None:
    cloud, path = Cloud(), str(tmp_path / "ledger")
    process = Process(cloud, path)
    process.meter.see(cloud.launch())
    cloud.now += 3600
    process.flush()
    cloud.now += 3600
    reader = open_for_reading(path)
    report = answer(reader, parse_question({}, cloud.now))
    assert report["total"]["usd"] == pytest.approx(0.25)
    assert any(note.startswith("counted until") for note in report["notes"])
    with pytest.raises(LedgerStoreError, match="readonly"):
        reader.write([], 1.0)
    reader.close()
    process.store.close()
    with pytest.raises(LedgerStoreError, match="there is no ledger"):
        open_for_reading(str(tmp_path / "nowhere"))


async def test_metrics_never_fall_and_follow_what_runs(tmp_path: Path) -> None:
    cloud, registry = Cloud(), CollectorRegistry()
    ledger = make(cloud, "", registry)
    await ledger.load()
    labels = {"namespace": "shop", "capacity_type": "on-demand"}
    ledger.meter.see(cloud.launch())
    cloud.now += 3600
    assert registry.get_sample_value("vk_instance_cost_usd_per_hour", labels) == 1.0
    assert registry.get_sample_value("vk_instance_cost_usd_total", labels) == pytest.approx(1.0)
    assert registry.get_sample_value("vk_instance_seconds_total", labels) == pytest.approx(3600)
    ledger.meter.missing("i-0")  # seen last an hour ago
    assert registry.get_sample_value("vk_instance_cost_usd_total", labels) == pytest.approx(1.0)
    assert registry.get_sample_value("vk_instance_cost_usd_per_hour", labels) is None
    await ledger.close()


async def test_the_history_is_the_mean_rate_of_each_step() -> None:
    cloud = Cloud()
    ledger = make(cloud, "")
    await ledger.load()
    began = cloud.now
    ledger.meter.see(cloud.launch())
    cloud.now += 5400
    ledger.meter.see(cloud.launch(namespace="lab"))
    cloud.now += 1800
    history = await ledger.history(began, cloud.now, 4)
    assert history.step_s == 1800
    assert history.rates["shop"] == pytest.approx([1.0] * 4)
    assert history.rates["lab"] == pytest.approx([0.0, 0.0, 0.0, 1.0])
    await ledger.close()


async def test_rows_that_nobody_can_read_keep_no_provider_from_starting_and_no_question_from_its_answer(
    tmp_path: Path,
) -> None:
    path, cloud = str(tmp_path / "ledger"), Cloud()
    process = Process(cloud, path)
    changes = ["labels = '{'", "state = 'tired'", "since = 'then'", "labels = '[1]'", f"labels = '{'[' * 100_000}'"]
    changes += ["price_nanos = 9e999", "disk_nanos = 1e30", "burst_nanos = -1"]
    for _ in range(len(changes) + 1):
        process.see_new()
    cloud.now += 3600
    process.flush()
    process.store.close()
    with closing(sqlite3.connect(path)) as file:
        for number, change in enumerate(changes, 1):
            file.execute(f"UPDATE spans SET {change} WHERE instance_id = 'i-{number}'")
        file.execute("UPDATE meta SET value = 'now' WHERE name = 'unpriced_until'")
        file.commit()
    store = LedgerStore(path, "test")
    store.open()
    assert [span.instance_id for span in store.load()] == ["i-0"] and store.damaged == len(changes)
    report = answer(store, parse_question({"by": "label:app"}, cloud.now))
    assert report["total"]["instances"] >= 2
    store.close()
