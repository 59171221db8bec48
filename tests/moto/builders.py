"""Plays the builders of prepared image stores: each answers its order on its console, as told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tests.moto.server import MotoServer
from vk_provider.cloud.base import TAG_IMAGE_SET
from vk_provider.wire.imagebuild import BuildAnswer, BuildOrder

NOISE = "[    1.0] EXT4-fs (nvme1n1): mounted\nvk-image-store 0000000000000000 {}\n"
PAUSE_S = 0.2


@dataclass
class Builders:
    """answer: what one says to its order; None: nothing. orders: those that have come, by instance."""

    moto: MotoServer
    answer: Callable[[BuildOrder], BuildAnswer | None] = lambda order: BuildAnswer(1000)
    orders: dict[str, BuildOrder] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            with suppress(ClientError):  # a fault of the plan
                await asyncio.to_thread(self.play)
            await asyncio.sleep(PAUSE_S)

    def play(self) -> None:
        for builder in self.list():
            name = builder["InstanceId"]
            if name in self.orders or builder["State"]["Name"] not in ("pending", "running"):
                continue
            told = self.moto.client("ec2").describe_instance_attribute(InstanceId=name, Attribute="userData")
            order = BuildOrder.from_user_data(base64.b64decode(told["UserData"]["Value"]).decode())
            self.orders[name] = order
            said = self.answer(order)
            if said is not None:
                self.moto.set_console(name, NOISE + said.to_line(order.nonce) + "\n[   60.0] end")

    def list(self) -> list[dict[str, Any]]:
        filters = [{"Name": "tag-key", "Values": [TAG_IMAGE_SET]}]
        answer = self.moto.client("ec2").describe_instances(Filters=filters)
        return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]

    def alive(self) -> list[str]:
        return [each["InstanceId"] for each in self.list() if each["State"]["Name"] in ("pending", "running")]
