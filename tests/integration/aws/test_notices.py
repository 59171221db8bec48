"""EventBridge's events of EC2, from a queue."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.integration.aws.conftest import started
from tests.moto.plan import Plan, Rule
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.base import InstanceState, Notice, NoticeKind
from vk_provider.errors import CloudError

ID = "i-0123456789abcdef0"


def event(kind: str, source: str = "aws.ec2", **detail: Any) -> str:
    return json.dumps({"version": "0", "source": source, "detail-type": kind, "detail": detail, "region": "r"})


async def take(cloud: Any, count: int) -> list[Notice]:
    found: list[Notice] = []
    notices = cloud.notices()
    async with asyncio.timeout(30):
        async for notice in notices:
            found.append(notice)
            if len(found) == count:
                break
    await notices.aclose()
    return found


async def test_notices_come_from_the_queue_and_nothing_in_it_can_stop_them(moto: MotoServer, account: Account) -> None:
    sqs = moto.client("sqs")
    queue = sqs.create_queue(QueueName="notices", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    state = {"instance-id": ID, "state": "stopping"}
    bodies = [
        "no json",
        "[]",
        json.dumps({"source": "aws.ec2"}),
        event("EC2 Instance State-change Notification", **{**state, "instance-id": "../etc"}),
        event("EC2 Instance State-change Notification", **{**state, "state": "dancing"}),
        event("Scheduled Event", "aws.events"),
        event("EC2 Instance State-change Notification", **state),
        event("EC2 Spot Instance Interruption Warning", **{"instance-id": ID, "instance-action": "terminate"}),
    ]
    for body in bodies:
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    async with started(moto, account, notice_queue=queue) as cloud:
        found = await take(cloud, 2)
        assert {(each.kind, each.instance_id, each.state) for each in found} == {
            (NoticeKind.STATE, ID, InstanceState.STOPPING),
            (NoticeKind.INTERRUPTION, ID, None),
        }
        last = event("EC2 Instance Rebalance Recommendation", **{"instance-id": ID})

        async def next_one() -> Notice:
            async for notice in cloud.notices():
                if notice.kind is NoticeKind.REBALANCE:
                    return notice
            raise AssertionError

        waiting = asyncio.create_task(next_one())
        sqs.send_message(QueueUrl=queue, MessageBody=last)
        assert (await asyncio.wait_for(waiting, 30)).instance_id == ID


async def test_messages_are_deleted_after_they_were_given(moto: MotoServer, account: Account) -> None:
    sqs = moto.client("sqs")
    queue = sqs.create_queue(QueueName="given", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    sqs.send_message(
        QueueUrl=queue,
        MessageBody=event("EC2 Instance State-change Notification", **{"instance-id": ID, "state": "stopped"}),
    )
    async with started(moto, account, notice_queue=queue) as cloud:
        assert len(await take(cloud, 1)) == 1
        assert len(await take(cloud, 1)) == 1, "who was cut off before the next one finds it again"

        async def read_on() -> None:
            async for _ in cloud.notices():
                pass

        reading = asyncio.create_task(read_on())
        async with asyncio.timeout(20):
            while moto.calls()["DeleteMessageBatch"] < 1:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        assert attributes["ApproximateNumberOfMessages"] == "0"


async def test_a_queue_that_is_not_there_is_an_error_and_without_one_there_are_no_notices(
    moto: MotoServer, account: Account
) -> None:
    async with started(moto, account) as cloud:
        assert [each async for each in cloud.notices()] == []
    async with started(moto, account, notice_queue=f"{moto.url}/123456789012/nowhere") as cloud:
        with pytest.raises(CloudError):
            await take(cloud, 1)
        moto.plan(Plan(rules=(Rule("ReceiveMessage", "ThrottlingException"),)))
        with pytest.raises(CloudError, match="Throttling"):
            await take(cloud, 1)
