"""Counting, combining and filtering of events, with client-go's figures."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.kube.correlator import SPAM_BURST, CorrelatedEvent, EventCorrelator


def event(message: str = "m", reason: str = "Failed", uid: str = "u", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"p.{message}", "namespace": "ns"},
        "involvedObject": {"kind": "Pod", "namespace": "ns", "name": "p", "uid": uid},
        "source": {"component": "kubelet", "host": "n"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def post(correlator: EventCorrelator, each: dict[str, Any], now: float) -> CorrelatedEvent | None:
    planned = correlator.correlate(each, now)
    return planned if correlator.allows(planned, now) else None


def names(planned: Iterable[CorrelatedEvent | None]) -> list[str]:
    return [each.event["metadata"]["name"] for each in planned if each]


def counts(planned: Iterable[CorrelatedEvent | None]) -> list[int]:
    return [each.event["count"] for each in planned if each]


def test_the_same_event_counts_up_under_the_name_of_the_first() -> None:
    correlator = EventCorrelator()
    again = event(metadata={"name": "p.2", "namespace": "ns"}, firstTimestamp="2026-01-01T00:00:09Z", count=5)
    planned = [post(correlator, each, float(now)) for now, each in enumerate((event(), again, event()))]
    assert names(planned) == ["p.m"] * 3
    assert counts(planned) == [1, 6, 7]
    assert {each.event["firstTimestamp"] for each in planned if each} == {"2026-01-01T00:00:00Z"}


def test_the_tenth_different_message_is_combined() -> None:
    correlator = EventCorrelator()
    planned = [post(correlator, event(f"m{number}"), float(number)) for number in range(12)]
    texts = [each.event["message"] for each in planned if each]
    assert texts[8] == "m8"
    assert texts[9] == "(combined from similar events): m9"
    assert names(planned)[9:] == ["p.m9"] * 3
    assert counts(planned)[8:] == [1, 1, 2, 3]


def test_messages_far_apart_are_not_combined() -> None:
    correlator = EventCorrelator()
    planned = [post(correlator, event(f"m{number}"), number * 601.0) for number in range(12)]
    assert all(each and "combined" not in each.event["message"] for each in planned)


def test_an_object_with_too_many_events_is_silenced_but_no_other() -> None:
    correlator = EventCorrelator()
    planned = [post(correlator, event(reason=f"R{number}"), 0.0) for number in range(SPAM_BURST + 5)]
    assert [each is None for each in planned] == [False] * SPAM_BURST + [True] * 5
    assert post(correlator, event(uid="other"), 0.0) is not None
    assert post(correlator, event(reason="later"), 301.0) is not None


def test_many_normal_events_silence_no_warning() -> None:
    """getSpamKey ends in the type: a kubelet's pod has 25 of each."""
    correlator = EventCorrelator()
    normal = [post(correlator, event(reason=f"R{number}", type="Normal"), 0.0) for number in range(SPAM_BURST + 5)]
    warnings = [post(correlator, event(reason=f"R{number}"), 0.0) for number in range(SPAM_BURST + 5)]
    assert [each is None for each in normal] == [each is None for each in warnings]
    assert sum(each is not None for each in warnings) == SPAM_BURST


def test_what_the_filter_holds_back_is_in_the_next_count() -> None:
    """eventObserve counts before filterFunc is asked."""
    correlator = EventCorrelator()
    planned = [post(correlator, event(), float(number)) for number in range(SPAM_BURST + 30)]
    assert counts(planned) == list(range(1, SPAM_BURST + 1))
    assert counts([post(correlator, event(), 301.0)]) == [SPAM_BURST + 31]


def test_the_flood_of_one_object_makes_nothing_of_another_forgotten() -> None:
    correlator = EventCorrelator()
    post(correlator, event(uid="quiet"), 0.0)
    for number in range(20_000):
        post(correlator, event(reason=f"R{number}"), 1.0)
    assert counts([post(correlator, event(uid="quiet"), 2.0)]) == [2]


def test_what_is_remembered_of_one_object_is_bounded() -> None:
    correlator = EventCorrelator(objects=2, series_per_object=3)
    first = correlator.correlate(event(reason="R0"), 0.0)
    for number in range(1, 4):
        correlator.correlate(event(reason=f"R{number}"), 0.0)
    assert correlator.correlate(event(reason="R0"), 0.0).series is not first.series
    assert correlator.correlate(event(reason="R3"), 0.0).series.count == 2
    for uid in ("a", "b"):
        correlator.correlate(event(uid=uid), 0.0)
    assert correlator.correlate(event(reason="R3"), 0.0).series.count == 1


def test_a_count_stays_what_the_api_takes() -> None:
    correlator = EventCorrelator()
    planned = [post(correlator, event(count=count), 0.0) for count in (2**63 - 1, 1)]
    assert counts(planned) == [2**31 - 1] * 2


def test_a_bucket_makes_the_one_after_the_burst_wait() -> None:
    bucket = TokenBucket(rate=10, burst=2, now=0)
    assert [round(bucket.take(0), 3) for _ in range(4)] == [0, 0, 0.1, 0.2]
    assert bucket.take(10) == 0


RECORDED = Path(__file__).with_name("client_go_0_37.jsonl").read_text().splitlines()
"""Events of chance, and what EventCorrelator of client-go 0.37.2 made of each: null when it was skipped, else count,
name, message, and the second of firstTimestamp."""


@pytest.mark.parametrize("line", RECORDED, ids=range(len(RECORDED)))
def test_events_of_chance_are_combined_counted_and_dropped_as_by_client_go(line: str) -> None:
    correlator = EventCorrelator()
    names_of: dict[str, str] = {}
    for number, (at, kind, reason, message, path, uid, wanted) in enumerate(json.loads(line)):
        each = event(message, reason, type=kind, metadata={"name": f"p.{number}"}, firstTimestamp=str(at))
        each["involvedObject"] |= {"fieldPath": path, "uid": uid}
        planned = post(correlator, each, float(at))
        assert (planned is None) == (wanted is None), number
        if planned is not None:
            count, name, text, first = wanted
            made = planned.event
            assert (made["count"], made["message"], made["firstTimestamp"]) == (count, text, str(first)), number
            # A combined event has a name of its own there: what counts is which events have the same.
            assert names_of.setdefault(name, made["metadata"]["name"]) == made["metadata"]["name"], number
    assert len(set(names_of.values())) == len(names_of)
