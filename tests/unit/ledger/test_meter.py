"""What the meter concludes from what it is told."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.unit.ledger.model import Cloud, Process, owner
from vk_provider.cloud.base import TAG_POD_NAMESPACE, InstanceState
from vk_provider.ledger import meter
from vk_provider.ledger.meter import ABSENT_S, DOUBT_S, REMEMBERED_S
from vk_provider.ledger.span import Span, SpanState
from vk_provider.ledger.store import RECENT_S


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def process(cloud: Cloud) -> Process:
    return Process(cloud, ":memory:")


def test_the_time_before_the_assignment_is_the_pods_where_it_was_launched_for_its_namespace(
    cloud: Cloud, process: Process
) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.assign("i-0", owner("shop", "web"))
    cloud.now += 60
    (row,) = process.cost("pod")["rows"]
    assert (row["key"], row["seconds"]) == (["shop/web"], pytest.approx(120))


def test_a_spare_instance_costs_nobody_until_it_is_given_to_a_pod(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch(namespace=""))
    cloud.now += 60
    assert process.meter.usage("").instances == 1
    process.meter.assign("i-0", owner("shop", "web"))
    assert process.meter.usage("").instances == 0 and process.meter.usage("shop").instances == 1
    cloud.now += 30
    seconds = {row["key"][0]: row["seconds"] for row in process.cost("namespace")["rows"]}
    assert seconds == {"": pytest.approx(60), "shop": pytest.approx(30)}


def test_an_older_listing_does_not_bring_back_what_was_terminated(cloud: Cloud, process: Process) -> None:
    running = cloud.launch()
    process.meter.see(running)
    cloud.now += 60
    process.meter.ended("i-0")
    cloud.now += 60
    process.meter.take([running], lambda _: False)
    assert process.meter.usage().instances == 0
    assert process.cost()["total"]["seconds"] == pytest.approx(60)


def test_an_instance_that_runs_on_after_its_termination_was_never_away(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.ended("i-0")
    cloud.now += 60
    process.meter.runs_on("i-0")
    cloud.now += 60
    assert process.cost()["total"]["seconds"] == pytest.approx(180)
    assert process.meter.usage("shop").instances == 1
    assert sum(each.seconds for each in process.meter.counted().values()) == pytest.approx(180)


def test_a_stopped_instance_costs_nothing_until_it_is_started_again(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    cloud.end("i-0", InstanceState.STOPPED)
    process.list()
    cloud.now += 600
    started = replace(cloud.instances["i-0"], state=InstanceState.RUNNING, launch_time=cloud.now, ended_at=0.0)
    cloud.instances["i-0"] = started
    cloud.now += 40
    process.list()
    assert process.cost()["total"]["seconds"] == pytest.approx(100)
    assert process.cost()["total"]["instances"] == 1


def test_what_vanishes_is_counted_until_it_was_seen_and_marked(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.list()
    vanished = cloud.instances.pop("i-0")
    cloud.now += ABSENT_S / 2
    process.list()
    assert process.meter.usage().instances == 1, "one answer without it is no fact"
    cloud.now += ABSENT_S
    process.list()
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(60) and total["estimatedUsd"] == pytest.approx(total["usd"])
    cloud.instances["i-0"] = vanished
    process.list()
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(60 + 1.5 * ABSENT_S) and total["estimatedUsd"] == 0


def test_the_table_decides_about_those_that_it_looks_after(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.instances.clear()
    cloud.now += 10 * ABSENT_S
    process.meter.take([], lambda _: True)
    assert process.meter.usage().instances == 1
    process.meter.missing("i-0")
    assert process.meter.usage().instances == 0


def test_an_end_that_the_cloud_does_not_date_is_the_last_moment_it_was_seen(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.list()
    cloud.now += 45
    cloud.instances["i-0"] = replace(cloud.instances["i-0"], state=InstanceState.TERMINATED)
    process.list()
    total = process.cost()["total"]
    assert total["seconds"] == pytest.approx(60) and total["estimatedUsd"] > 0


def test_the_cloud_dates_the_end_of_a_termination_whose_answer_came_late(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    cloud.end("i-0")
    cloud.now += 100
    process.meter.ended("i-0")
    assert process.cost()["total"]["seconds"] == pytest.approx(160)
    process.list()
    assert process.cost()["total"]["seconds"] == pytest.approx(60)
    assert process.cost()["total"]["estimatedUsd"] == 0
    changed = len(process.meter.changed)
    process.list()
    assert len(process.meter.changed) == changed, "once"


def test_an_instance_without_a_price_counts_in_time_alone(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch("unheard-of"))
    cloud.now += 60
    report = process.cost()
    assert report["total"]["usd"] == 0 and report["total"]["unpricedSeconds"] == pytest.approx(60)
    assert any(note.startswith("unpriced") for note in report["notes"])


def test_a_price_is_that_of_the_launch(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 3600
    process.meter.prices.price_of = lambda _: 100.0
    process.list()
    assert process.usd() == pytest.approx(0.25)


def test_less_is_told_when_something_ends(cloud: Cloud, process: Process) -> None:
    told: list[float] = []
    process.meter.on_less = lambda: told.append(cloud.now)
    process.meter.see(cloud.launch())
    process.meter.assign("i-0", owner("shop", "web"))
    assert not told
    process.meter.ended("i-0")
    assert told == [cloud.now]


def test_an_earlier_process_is_not_counted_again(cloud: Cloud, tmp_path: object) -> None:
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    first.meter.see(cloud.launch())
    cloud.now += 3600
    first.flush()
    first.store.close()
    cloud.now += 3600
    second = Process(cloud, path)
    assert second.meter.usage().instances == 0, "nobody has seen it yet"
    second.list()
    (counted,) = second.meter.counted().values()
    assert counted.usd == pytest.approx(0.25), "what ran meanwhile"
    assert second.usd() == pytest.approx(0.5)
    second.store.close()


def test_a_notice_before_a_restart_takes_nothing_out_of_the_bill_either(cloud: Cloud, tmp_path: object) -> None:
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    first.meter.see(cloud.launch())
    cloud.now += 60
    first.meter.told("i-0", InstanceState.TERMINATED)
    first.flush()
    first.store.close()
    second = Process(cloud, path)
    cloud.now += DOUBT_S + 1
    second.list()
    assert second.meter.usage("shop").instances == 1
    assert second.cost()["total"]["seconds"] == pytest.approx(60 + DOUBT_S + 1)
    second.store.close()


def test_a_run_that_is_seen_late_is_not_counted_beside_what_is_known_of_it(cloud: Cloud, tmp_path: object) -> None:
    """The cloud's launch time has whole seconds, and is earlier than the one known."""
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    launched = cloud.launch()
    first.meter.see(replace(launched, launch_time=launched.launch_time + 0.4))
    cloud.now += 600
    first.meter.ended("i-0", InstanceState.STOPPED)
    first.flush()
    first.store.close()
    cloud.now += RECENT_S + 100
    second = Process(cloud, path)
    stopped = replace(launched, state=InstanceState.STOPPED, ended_at=launched.launch_time + 600)
    second.meter.take([stopped], lambda _: False)
    second.flush()
    assert second.cost()["total"]["seconds"] == pytest.approx(600, abs=1)
    second.store.close()


def test_what_ended_while_nobody_looked_has_the_clouds_end(cloud: Cloud, tmp_path: object) -> None:
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    first.meter.see(cloud.launch())
    first.flush()
    first.store.close()
    cloud.now += 1800
    cloud.end("i-0")
    cloud.launch("large", "lab")
    cloud.now += 1800
    second = Process(cloud, path)
    second.list()
    seconds = {row["key"][0]: row["seconds"] for row in second.cost()["rows"]}
    assert seconds == {"shop": pytest.approx(1800), "lab": pytest.approx(1800)}
    assert second.cost()["total"]["estimatedUsd"] == 0
    second.store.close()


def test_the_memory_of_what_has_ended_is_bounded(cloud: Cloud, process: Process) -> None:
    for _ in range(20):
        process.meter.see(cloud.launch())
    for name in list(cloud.instances):
        process.meter.ended(name)
    cloud.instances.clear()
    cloud.now += REMEMBERED_S + 1
    process.list()
    process.flush()
    assert not process.meter._over and not process.meter.changed and not process.meter._usage


def test_an_assignment_in_the_same_moment_is_no_span_of_its_own(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch(namespace="", **{}))
    process.meter.assign("i-0", owner("lab", "p"))
    span = process.meter.find("i-0")
    assert span is not None and span.owner.namespace == "lab" and span.state is SpanState.RUNNING
    assert len(process.meter.changed) == 1
    assert cloud.instances["i-0"].tags[TAG_POD_NAMESPACE] == ""


def test_what_the_cloud_still_lists_after_a_restart_keeps_its_pod_and_is_not_counted_again(
    cloud: Cloud, tmp_path: object
) -> None:
    path = f"{tmp_path}/ledger"
    first = Process(cloud, path)
    first.meter.see(cloud.launch())
    first.meter.assign("i-0", owner("shop", "web", app="front"))
    cloud.now += 60
    cloud.end("i-0")
    first.meter.ended("i-0")
    first.flush()
    cloud.now += 2 * RECENT_S
    first.flush()
    first.store.close()
    second = Process(cloud, path)
    assert second.meter.find("i-0") is None
    second.list()
    (row,) = second.cost("pod,label:app")["rows"]
    assert row["key"] == ["shop/web", "front"] and row["seconds"] == pytest.approx(60)
    assert sum(each.usd for each in second.meter.counted().values()) == 0
    second.store.close()


def test_many_that_have_ended_are_forgotten_before_their_time_but_for_those_that_are_listed(
    cloud: Cloud, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "MAX_REMEMBERED", 5)
    for _ in range(20):
        process.meter.see(cloud.launch())
    for name in list(cloud.instances):
        cloud.end(name)
        process.meter.ended(name)
    for name in list(cloud.instances)[:10]:
        del cloud.instances[name]
    process.list()
    assert list(process.meter._over) == list(cloud.instances)


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SHUTTING_DOWN, InstanceState.STOPPED])
def test_a_notice_of_an_end_that_listings_contradict_was_none(
    cloud: Cloud, process: Process, state: InstanceState
) -> None:
    """Whoever may write into the queue of notices takes no instance out of the bill, and makes room in a budget only
    until the next listing that is newer."""
    process.meter.see(cloud.launch())
    for _ in range(3):
        cloud.now += 60
        process.meter.told("i-0", state)
        process.list()
        assert process.meter.usage("shop").instances == 0, "the listing may be older"
        cloud.now += DOUBT_S + 1
        process.list()
        assert process.meter.usage("shop").instances == 1
    seconds = 3 * (60 + DOUBT_S + 1)
    assert process.cost()["total"]["seconds"] == pytest.approx(seconds)
    assert sum(each.seconds for each in process.meter.counted().values()) == pytest.approx(seconds)


def test_a_notice_of_an_end_that_is_true_ends_it(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.told("i-0", InstanceState.TERMINATED)
    cloud.end("i-0")
    for _ in range(3):
        cloud.now += DOUBT_S + 1
        process.list()
    assert process.cost()["total"]["seconds"] == pytest.approx(60) and process.meter.usage().instances == 0


def test_an_instance_that_was_told_to_stop_and_is_started_again_has_not_run_meanwhile(
    cloud: Cloud, process: Process
) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.told("i-0", InstanceState.STOPPED)
    cloud.now += 10 * DOUBT_S
    cloud.instances["i-0"] = replace(cloud.instances["i-0"], launch_time=cloud.now)
    cloud.now += 40
    process.list()
    assert process.cost()["total"]["seconds"] == pytest.approx(100)


def test_a_termination_of_ours_is_not_taken_back_for_an_earlier_notice(cloud: Cloud, process: Process) -> None:
    process.meter.see(cloud.launch())
    cloud.now += 60
    process.meter.told("i-0", InstanceState.SHUTTING_DOWN)
    process.meter.ended("i-0")
    cloud.now += DOUBT_S + 1
    process.list()
    assert process.meter.usage().instances == 0, "instances.ends looks after it"


def test_a_copy_of_a_span_has_all_of_it_and_does_not_change_with_it() -> None:
    values = {each.name: index for index, each in enumerate(fields(Span))}
    span = Span(**values)  # type: ignore[arg-type]  # any values
    copied = span.copy()
    span.until = -1.0
    assert {name: getattr(copied, name) for name in values} == values


def test_a_price_that_is_known_late_is_that_of_the_whole_time(cloud: Cloud, process: Process) -> None:
    known: dict[str, float] = {}
    process.meter.prices.price_of = lambda instance: known.get(instance.instance_type)
    process.meter.prices.disk_price_of = lambda instance: known.get("disk")
    process.see_new()
    cloud.now += 3600
    assert process.cost()["total"]["unpricedSeconds"] == 3600
    known.update(small=0.25, disk=0.01)
    process.list()
    total = process.cost()["total"]
    assert total["usd"] == pytest.approx(0.26) and total["unpricedSeconds"] == 0
    assert process.meter.usage().nanos == 260_000_000
