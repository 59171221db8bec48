"""What EC2 says by itself: EventBridge's events of EC2, from a queue of SQS.

The queue is ours alone to read; whoever may write into it is not believed further than a notice goes: a state is looked
up, and an interruption ends one pod. A message is deleted after it was given, so that none is lost with the process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from vk_provider.cloud.aws.answers import Message
from vk_provider.cloud.aws.operations import DELETE_MESSAGES, RECEIVE_MESSAGES, AwsApi
from vk_provider.cloud.base import InstanceState, Notice, NoticeKind

log = logging.getLogger(__name__)

WAIT_S = 20
"""SQS' longest poll."""
MESSAGES = 10
MAX_BODY = 256 * 1024
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_STATES = {str(state): state for state in InstanceState}
Short = Annotated[str, Meta(max_length=256)]


class _Entity(Struct, rename="camel", frozen=True):
    entity_value: Short = ""


class _Detail(Struct, rename={"instance_id": "instance-id", "instance_action": "instance-action"}, frozen=True):
    instance_id: Short = ""
    instance_action: Short = ""
    state: Short = ""
    service: Short = ""
    event_type_category: Short = msgspec.field(default="", name="eventTypeCategory")
    event_type_code: Short = msgspec.field(default="", name="eventTypeCode")
    start_time: Short = msgspec.field(default="", name="startTime")
    affected_entities: Annotated[list[_Entity], Meta(max_length=1000)] = msgspec.field(
        default_factory=list, name="affectedEntities"
    )


class _Event(Struct, frozen=True):
    source: Short
    detail_type: Short = msgspec.field(name="detail-type")
    detail: _Detail


_decoder = msgspec.json.Decoder(_Event)


def parse_notices(body: str) -> list[Notice]:
    """The notices of one message, none when it is about something else. Raises ValueError for one that is no event,
    RecursionError for one that is nested without end."""
    if len(body) > MAX_BODY:
        raise ValueError(f"{len(body)} characters")
    event = _decoder.decode(body)
    detail, found = event.detail, _INSTANCE_ID.fullmatch(event.detail.instance_id)
    match event.source, event.detail_type:
        case "aws.ec2", "EC2 Spot Instance Interruption Warning" if found:
            text = (
                f"EC2 takes the spot instance {found[0]} back in two minutes "
                f"({_line(detail.instance_action) or 'terminate'})"
            )
            return [Notice(NoticeKind.INTERRUPTION, found[0], text)]
        case "aws.ec2", "EC2 Instance Rebalance Recommendation" if found:
            text = f"EC2 expects to take the spot instance {found[0]} back soon"
            return [Notice(NoticeKind.REBALANCE, found[0], text)]
        case "aws.ec2", "EC2 Instance State-change Notification" if found and detail.state in _STATES:
            text = f"EC2 says that instance {found[0]} is {detail.state}"
            return [Notice(NoticeKind.STATE, found[0], text, _STATES[detail.state])]
        case "aws.health", "AWS Health Event" if (detail.service, detail.event_type_category) == (
            "EC2",
            "scheduledChange",
        ):
            text = (
                f"EC2 has scheduled {_line(detail.event_type_code) or 'a change'} at "
                f"{_line(detail.start_time) or 'an unknown time'}"
            )
            names = [each.entity_value for each in detail.affected_entities]
            at = _parse_start(detail.start_time)
            # Without a time it may be weeks away: the pod is told, and not stopped for it.
            kind = NoticeKind.INTERRUPTION if at is not None else NoticeKind.REBALANCE
            return [Notice(kind, name, text, at=at) for name in names if _INSTANCE_ID.fullmatch(name)]
    return []


def _line(text: str) -> str:
    """For an event: nothing that a terminal acts on."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _parse_start(text: str) -> float | None:
    """Unix seconds of AWS Health's startTime, such as "Sat, 05 Jun 2016 15:10:09 GMT"; None for anything else."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


async def follow(api: AwsApi, queue_url: str) -> AsyncIterator[Notice]:
    """For ever. Raises CloudError."""
    parameters: dict[str, Any] = {
        "QueueUrl": queue_url,
        "MaxNumberOfMessages": MESSAGES,
        "WaitTimeSeconds": WAIT_S,
    }
    while True:
        messages = (await api.call(RECEIVE_MESSAGES, parameters)).messages
        for message in messages:
            for notice in _read(message):
                yield notice
        if messages:
            entries = [{"Id": str(n), "ReceiptHandle": m.receipt_handle} for n, m in enumerate(messages)]
            await api.call(DELETE_MESSAGES, {"QueueUrl": queue_url, "Entries": entries})


def _read(message: Message) -> list[Notice]:
    try:
        return parse_notices(message.body)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        log.warning("a message of the queue of notices is no event of EC2: %s", error)
        return []
