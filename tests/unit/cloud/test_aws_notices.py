"""What EC2's events say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vk_provider.cloud.aws.notices import parse_notices
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
