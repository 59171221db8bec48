"""What the outbox keeps, repeats and drops."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import orjson
import pytest

from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.wire.images import ImageUse
from vk_provider.wire.inbound import decode_up
from vk_provider.wire.session import StatsMessage
from vk_provider.wire.tables import TablesMessage

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def make(event_limit: int = 500) -> Outbox:
    return Outbox(event_limit, lambda: MOMENT)


def stats(sample: int) -> StatsMessage:
    return StatsMessage(type="stats", podUID="u", timestamp=str(sample), pod={}, node={})


def shown(messages: list[dict[str, Any]]) -> list[str]:
    keys = {"status": lambda m: m["status"]["phase"], "event": lambda m: m["reason"], "stats": lambda m: m["timestamp"]}
    return [f"{m['type']} {keys[m['type']](m)}" for m in messages]


async def test_only_the_newest_status_and_stats_are_sent_and_status_goes_first():
    outbox = make()
    outbox.start_session()
    outbox.send_stats(stats(1))
    outbox.send_event("u", "Normal", "Pulled", "pulled")
    outbox.send_status("u", {"phase": "Pending"}, False)
    outbox.send_status("u", {"phase": "Running"}, False)
    outbox.send_stats(stats(2))
    assert shown(await outbox.take()) == ["status Running", "event Pulled", "stats 2"]
    outbox.send_event("u", "Warning", "BackOff", "back-off", "spec.containers{c}")
    (event,) = await outbox.take()
    assert event["eventType"] == "Warning" and event["fieldPath"] == "spec.containers{c}"
    assert event["timestamp"] == "2026-01-02T03:04:05Z"


async def test_the_newest_answer_for_each_table_goes_first_and_is_left_to_the_greeting_of_a_new_session():
    outbox = make()
    outbox.start_session()
    outbox.send_status("u", {"phase": "Running"}, False)
    old: TablesMessage = {"type": "tables", "tables": {"services": "::1"}, "name": "services"}
    newest: TablesMessage = {"type": "tables", "tables": {"services": "::2"}, "name": "services"}
    other: TablesMessage = {"type": "tables", "tables": {"services": "::1"}, "name": "policy", "error": "no"}
    for message in (old, other, newest):
        outbox.send_tables(message)
    *tables, status = await outbox.take()
    assert tables == [newest, other] and status["type"] == "status"
    outbox.send_tables(newest)
    outbox.start_session()
    assert shown(await outbox.take()) == ["status Running"]


async def test_a_new_session_gets_the_newest_state_and_unacknowledged_events_again():
    outbox = make()
    outbox.start_session()
    outbox.send_status("u", {"phase": "Running"}, False)
    for reason in ("Pulled", "Created", "Started"):
        outbox.send_event("u", "Normal", reason, reason)
    first = await outbox.take()
    outbox.acknowledge(first[1]["seq"])
    outbox.start_session()
    assert shown(await outbox.take()) == ["status Running", "event Created", "event Started"]
    outbox.acknowledge(first[3]["seq"])
    outbox.start_session()
    assert shown(await outbox.take()) == ["status Running"]


async def test_the_newest_list_of_images_is_sent_before_events_and_again_to_a_new_session():
    outbox = make()
    outbox.start_session()
    outbox.send_images("u", [])
    outbox.send_event("u", "Normal", "Pulled", "pulled")
    outbox.send_images("u", [ImageUse(image="a:1", digests=[], sizeBytes=1, pulled=True, seconds=0.5)])
    images, event = await outbox.take()
    assert event["type"] == "event"
    assert decode_up(orjson.dumps(images)) == images and [use["image"] for use in images["images"]] == ["a:1"]
    outbox.start_session()
    assert [message["type"] for message in await outbox.take()] == ["images", "event"]


async def test_tokens_that_containers_wait_for_go_first_and_to_a_new_session_while_they_wait():
    outbox = make()
    outbox.start_session()
    outbox.send_status("u", {"phase": "Running"}, False)
    outbox.send_identity("u", ["a.b.c"])
    outbox.send_identity("u", ["a.b.c", "d.e.f"])
    identity, status = await outbox.take()
    assert identity == {"type": "identity", "podUID": "u", "tokens": ["a.b.c", "d.e.f"]}
    assert decode_up(orjson.dumps(identity)) == identity and status["type"] == "status"
    outbox.start_session()
    assert [message["type"] for message in await outbox.take()] == ["identity", "status"]
    outbox.send_identity("u", [])
    outbox.start_session()
    assert [message["type"] for message in await outbox.take()] == ["status"]


async def test_take_waits_until_something_is_due():
    outbox = make()
    outbox.start_session()
    waiting = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.send_event("u", "Normal", "Killing", "stopping")
    assert shown(await waiting) == ["event Killing"]


async def test_a_full_queue_loses_the_oldest_normal_event_first():
    outbox = make(event_limit=3)
    outbox.send_event("u", "Warning", "Failed", "1")
    outbox.send_event("u", "Normal", "Pulling", "2")
    outbox.send_event("u", "Warning", "BackOff", "3")
    outbox.send_event("u", "Warning", "Unhealthy", "4")
    assert [e["reason"] for e in outbox.unacknowledged()] == ["Failed", "BackOff", "Unhealthy"]
    outbox.send_event("u", "Normal", "Killing", "5")
    assert [e["reason"] for e in outbox.unacknowledged()] == ["BackOff", "Unhealthy", "Killing"]
    assert outbox.dropped_events == 2


def unhealthy(outbox: Outbox, number: int) -> None:
    for _ in range(number):
        Recorder(outbox, "u").warn("Unhealthy", "Readiness probe failed: 503", "spec.containers{c}")


async def test_equal_warnings_at_the_same_moment_are_all_counted():
    outbox = make()
    outbox.start_session()
    unhealthy(outbox, 4)
    Recorder(outbox, "u").warn("Unhealthy", "Readiness probe failed: 500", "spec.containers{c}")
    Recorder(outbox, "u").warn("Unhealthy", "Readiness probe failed: 503", "spec.containers{d}")
    events = await outbox.take()
    assert [event.get("count", 1) for event in events] == [4, 1, 1]
    unhealthy(outbox, 2)
    assert [event.get("count", 1) for event in await outbox.take()] == [2]


async def test_a_count_stays_what_the_wire_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vk_provider.agent.outbox.MAX_EVENT_COUNT", 3)
    outbox = make()
    unhealthy(outbox, 7)
    assert [event.get("count", 1) for event in outbox.unacknowledged()] == [3, 3, 1]


async def test_an_event_that_was_sent_is_repeated_as_it_was():
    outbox = make()
    outbox.start_session()
    unhealthy(outbox, 1)
    sent = await outbox.take()
    unhealthy(outbox, 2)
    outbox.start_session()
    repeated = await outbox.take()
    assert repeated[:1] == sent
    assert [event.get("count", 1) for event in repeated] == [1, 2]


async def test_nothing_is_counted_on_an_event_that_is_not_kept():
    outbox = make(event_limit=1)
    unhealthy(outbox, 1)
    outbox.send_event("u", "Normal", "Pulled", "pulled")
    unhealthy(outbox, 1)
    assert [event["reason"] for event in outbox.unacknowledged()] == ["Unhealthy"]
    outbox.acknowledge(outbox.unacknowledged()[0]["seq"])
    unhealthy(outbox, 1)
    assert [event.get("count", 1) for event in outbox.unacknowledged()] == [1]


async def test_the_10_kib_that_a_probe_may_say_pass_the_door_and_no_more_than_it_takes_is_sent():
    outbox = make()
    said = "Readiness probe errored and resulted in unknown state: " + "x" * 10 * 1024
    outbox.send_event("u", "Warning", "Unhealthy", said)
    outbox.send_event("u", "Warning", "Unhealthy", "y" * 100_000)
    full, cut = outbox.unacknowledged()
    assert full["message"] == said
    assert cut["message"] == "y" * len(cut["message"]) and len(cut["message"]) > len(said)
    for event in (full, cut):
        assert decode_up(orjson.dumps(event))["message"] == event["message"]
