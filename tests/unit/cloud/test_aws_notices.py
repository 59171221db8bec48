"""What EC2's events say."""

from __future__ import annotations

import json
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from vk_provider.cloud.aws.notices import follow, parse_notices
from vk_provider.cloud.base import InstanceState, Notice, NoticeKind

INSTANCE = "i-0123456789abcdef0"


def event(source: str, detail_type: str, **detail: Any) -> str:
    return json.dumps({"version": "0", "source": source, "detail-type": detail_type, "detail": detail})


def scheduled(start: str) -> Notice:
    body = event(
        "aws.health",
        "AWS Health Event",
        service="EC2",
        eventTypeCategory="scheduledChange",
        eventTypeCode="AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        startTime=start,
        affectedEntities=[{"entityValue": INSTANCE}, {"entityValue": "vol-1"}],
    )
    (notice,) = parse_notices(body)
    return notice


def test_a_retirement_is_an_interruption_at_its_time() -> None:
    notice = scheduled("Sun, 05 Jun 2016 15:10:09 GMT")
    assert (notice.kind, notice.instance_id, notice.at) == (NoticeKind.INTERRUPTION, INSTANCE, 1465139409.0)
    assert "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED" in notice.message


@pytest.mark.parametrize("start", ["", "soon", "Sun, 99 Jun 2016 15:10:09 GMT"])
def test_a_scheduled_change_without_a_time_stops_no_pod(start: str) -> None:
    assert scheduled(start).kind is NoticeKind.REBALANCE


def test_a_spot_interruption_is_in_two_minutes() -> None:
    detail = {"instance-id": INSTANCE, "instance-action": "terminate"}
    (notice,) = parse_notices(event("aws.ec2", "EC2 Spot Instance Interruption Warning", **detail))
    assert (notice.kind, notice.at) == (NoticeKind.INTERRUPTION, None)


def test_a_change_of_state_is_told() -> None:
    detail = {"instance-id": INSTANCE, "state": "stopped"}
    (notice,) = parse_notices(event("aws.ec2", "EC2 Instance State-change Notification", **detail))
    assert (notice.kind, notice.state) == (NoticeKind.STATE, InstanceState.STOPPED)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"source": 1}'])
def test_what_is_no_event_is_an_error(body: str) -> None:
    with pytest.raises(ValueError):
        parse_notices(body)


NESTED = '{"source": "aws.ec2", "detail-type": "x", "detail": {"x": ' + "[" * 60_000 + "]" * 60_000 + "}}"


@pytest.mark.parametrize("poison", [NESTED, "[" * 200_000, "\ud800", "{}", "x" * 300_000])
async def test_nothing_in_the_queue_stops_the_notices_and_what_is_no_event_is_deleted(poison: str) -> None:
    state = event("aws.ec2", "EC2 Instance State-change Notification", **{"instance-id": INSTANCE, "state": "stopped"})
    deleted: list[str] = []

    class Api:
        """The queue."""

        async def call(self, operation: Any, parameters: dict[str, Any]) -> Any:
            if "Entries" in parameters:
                deleted.extend(each["ReceiptHandle"] for each in parameters["Entries"])
            bodies = [] if deleted else [poison, state]
            return SimpleNamespace(
                messages=[SimpleNamespace(body=body, receipt_handle=body[:9]) for body in bodies] or [more]
            )

    more = SimpleNamespace(body=state, receipt_handle="more")
    async with aclosing(follow(Api(), "queue")) as notices:
        found = [await anext(notices), await anext(notices)]
    assert [each.instance_id for each in found] == [INSTANCE, INSTANCE]
    assert deleted == [poison[:9], state[:9]]


def test_a_notice_is_one_line_without_what_a_terminal_acts_on() -> None:
    detail = {"instance-id": INSTANCE, "instance-action": "\x1b[2J\n\u202estop"}
    (notice,) = parse_notices(event("aws.ec2", "EC2 Spot Instance Interruption Warning", **detail))
    assert notice.message.isprintable() and "stop" in notice.message
    assert scheduled("\x1b]0;x\x07").message.isprintable()
