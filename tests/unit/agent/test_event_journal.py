"""What of the events is on the disk when the agent is killed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from vk_provider.agent.event_journal import EventJournal
from vk_provider.agent.outbox import Outbox
from vk_provider.wire.values import MAX_EVENT_TEXT

_numbers = itertools.count()


def make(path: Path, event_limit: int = 500, slack_lines: int = 500) -> Outbox:
    return Outbox(event_limit, store=EventJournal(path, slack_lines))


def record(outbox: Outbox, *reasons: str) -> None:
    """Events that are not equal to any other."""
    for reason in reasons:
        outbox.send_event("u", "Warning" if reason == "BackOff" else "Normal", reason, f"{reason} {next(_numbers)}")


def reasons(outbox: Outbox) -> list[str]:
    return [event["reason"] for event in outbox.unacknowledged()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.log"


def test_events_survive_an_agent_that_is_killed_with_the_numbers_they_have(path: Path):
    before = make(path)
    record(before, "Pulled", "Created")
    after = make(path)  # nothing was closed or flushed
    assert after.unacknowledged() == before.unacknowledged() != []
    record(after, "Started")
    numbers = [event["seq"] for event in after.unacknowledged()]
    assert numbers == sorted(set(numbers)) and len(numbers) == 3
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_session_after_the_restart_sends_them(path: Path):
    record(make(path), "Pulled")
    outbox = make(path)
    outbox.start_session()
    assert [message["reason"] for message in await outbox.take()] == ["Pulled"]


def test_acknowledged_events_do_not_come_back(path: Path):
    before = make(path)
    record(before, "Pulled", "Created", "Started")
    before.acknowledge(before.unacknowledged()[1]["seq"])
    assert reasons(make(path)) == ["Started"]
    before.acknowledge(before.unacknowledged()[0]["seq"])
    assert reasons(make(path)) == []


def test_numbers_rise_although_the_clock_was_set_back(path: Path, monkeypatch: pytest.MonkeyPatch):
    before = make(path)
    record(before, "Pulled")
    told = before.unacknowledged()[0]["seq"]
    before.acknowledge(told)
    monkeypatch.setattr("time.time_ns", lambda: 1_000)
    after = make(path)
    record(after, "Killing")
    assert after.unacknowledged()[0]["seq"] > told


def test_the_file_stays_small_and_holds_what_counts(path: Path):
    outbox = make(path, event_limit=10, slack_lines=20)
    for number in range(1000):
        record(outbox, "Pulled", "BackOff")
        if number % 7 == 6:
            outbox.acknowledge(outbox.unacknowledged()[2]["seq"])
        assert len(path.read_bytes().splitlines()) <= 31
        assert make(path, event_limit=10).unacknowledged()[-1] == outbox.unacknowledged()[-1]
    assert reasons(outbox) == ["BackOff"] * 10


def test_more_events_than_are_kept_do_not_come_back(path: Path):
    record(make(path), *["Pulled"] * 5, "BackOff", *["Created"] * 5)
    assert reasons(make(path, event_limit=3)) == ["BackOff", "Created", "Created"]


def test_nothing_is_written_for_a_status_a_sample_or_a_repeated_acknowledgement(path: Path):
    outbox = make(path)
    record(outbox, "Pulled")
    seq = outbox.unacknowledged()[0]["seq"]
    outbox.acknowledge(seq)
    written = path.stat()
    outbox.acknowledge(seq)
    outbox.send_status("u", {"phase": "Running"}, False)
    outbox.send_stats({"type": "stats", "podUID": "u", "timestamp": "1", "pod": {}, "node": {}})
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)


def test_half_a_line_at_the_end_costs_that_event_only(path: Path):
    record(make(path), "Pulled", "Created")
    path.write_bytes(path.read_bytes()[:-20] + b'\n[1]\n{"type":"event"}\n\xff')
    assert reasons(make(path)) == ["Pulled"]


def test_a_full_disk_stops_nobody_and_is_made_good_for_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    outbox = make(path)
    record(outbox, "Pulled")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EventJournal, "_open", full)
        record(outbox, "Created", "Started")
        outbox.acknowledge(outbox.unacknowledged()[0]["seq"])
    assert [r.getMessage() for r in caplog.records].count(
        "events are not kept on the disk: [Errno 28] No space left on device"
    ) == 1
    record(outbox, "Killing")
    assert reasons(outbox) == reasons(make(path)) == ["Created", "Started", "Killing"]


def test_a_message_is_as_long_as_the_wire_takes_it(path: Path):
    outbox = make(path)
    outbox.send_event("u", "Warning", "Unhealthy", "x" * 50_000)
    assert len(outbox.unacknowledged()[0]["message"]) == MAX_EVENT_TEXT


def test_an_event_that_was_counted_up_comes_back_once_with_its_count(path: Path):
    outbox = make(path)
    record(outbox, "Pulled")
    for _ in range(3):
        outbox.send_event("u", "Warning", "Unhealthy", "equal")
    record(outbox, "Killing")
    restored = make(path).unacknowledged()
    assert restored == outbox.unacknowledged()
    assert [(event["reason"], event.get("count", 1)) for event in restored] == [
        ("Pulled", 1),
        ("Unhealthy", 3),
        ("Killing", 1),
    ]


def test_nothing_is_counted_on_an_event_from_before_the_restart(path: Path):
    """It may have been sent: the provider takes what it has under that number to be the same."""
    make(path).send_event("u", "Warning", "Unhealthy", "equal")
    after = make(path)
    after.send_event("u", "Warning", "Unhealthy", "equal")
    assert [event.get("count", 1) for event in after.unacknowledged()] == [1, 1]
