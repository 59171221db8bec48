"""Counting, combining and filtering of events, with client-go's figures."""

from typing import Any

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.kube.correlator import SPAM_BURST, EventCorrelator, PlannedEvent


def event(message: str = "m", reason: str = "Failed", uid: str = "u") -> dict[str, Any]:
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
    }


def post(correlator: EventCorrelator, each: dict[str, Any], now: float) -> PlannedEvent | None:
    planned = correlator.correlate(each, now)
    if planned is not None:
        name = planned.existing_name or planned.event["metadata"]["name"]
        correlator.remember(planned, {"metadata": {"name": name}})
    return planned


def test_the_same_event_counts_up_instead_of_being_posted_again() -> None:
    correlator = EventCorrelator()
    first, second, third = (post(correlator, event(), float(now)) for now in range(3))
    assert first and second and third
    assert first.existing_name == ""
    assert (second.existing_name, second.event["count"]) == ("p.m", 2)
    assert third.event["count"] == 3


def test_an_expired_event_starts_again_at_one() -> None:
    correlator = EventCorrelator()
    post(correlator, event(), 0)
    again = post(correlator, event(), 1)
    assert again is not None
    assert (again.as_new().existing_name, again.as_new().event["count"]) == ("", 1)


def test_the_tenth_different_message_is_combined() -> None:
    correlator = EventCorrelator()
    planned = [post(correlator, event(f"m{number}"), float(number)) for number in range(12)]
    texts = [each.event["message"] for each in planned if each]
    assert texts[8] == "m8"
    assert texts[9] == "(combined from similar events): m9"
    assert planned[10] is not None and planned[10].existing_name == planned[9].event["metadata"]["name"]  # type: ignore[union-attr]


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


def test_a_bucket_makes_the_one_after_the_burst_wait() -> None:
    bucket = TokenBucket(rate=10, burst=2, now=0)
    assert [round(bucket.take(0), 3) for _ in range(4)] == [0, 0, 0.1, 0.2]
    assert bucket.take(10) == 0
