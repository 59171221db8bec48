"""EC2's API as the booter uses it: what there is, what instances are made of, and the news of an end."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from tests.booter.machine import Machine, parse_reservations
from tests.booter.sandbox import Size

ANSWER_LIMIT_S = 20
"""A call that is under way when the booter ends is waited for: its thread cannot be ended."""
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
"""Of a server that does not look at them."""


class ApiError(Exception):
    """The server did not answer, or refused."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What an instance was launched with. on_shutdown: its InstanceInitiatedShutdownBehavior."""

    user_data: str
    on_shutdown: str


class Ec2Api:
    """Blocking calls run in threads. endpoint: URL of the server."""

    def __init__(self, endpoint: str, region: str) -> None:
        config = Config(
            retries={"total_max_attempts": 1},  # who calls tries again
            connect_timeout=5,
            read_timeout=ANSWER_LIMIT_S,
            max_pool_connections=20,
        )
        session = boto3.session.Session(region_name=region, **CREDENTIALS)
        self._client: Any = session.client("ec2", endpoint_url=endpoint, config=config)
        self._cidrs: dict[str, str] = {}
        self._sizes: dict[str, Size] = {}

    async def list_machines(self) -> list[Machine]:
        """All instances of the region. Raises ApiError."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[Machine]:
        pages = self._pages("describe_instances")
        found = [each for page in pages for group in page["Reservations"] for each in group["Instances"]]
        named = {each.get(key) for each in found for key in ("SubnetId", "VpcId")} - {None}
        if named - self._cidrs.keys():
            self._cidrs |= self._read_cidrs()
        return parse_reservations(pages, self._cidrs)

    def _read_cidrs(self) -> dict[str, str]:
        subnets = [each for page in self._pages("describe_subnets") for each in page["Subnets"]]
        networks = [each for page in self._pages("describe_vpcs") for each in page["Vpcs"]]
        return {each["SubnetId"]: each["CidrBlock"] for each in subnets} | {
            each["VpcId"]: each["CidrBlock"] for each in networks
        }

    def _pages(self, verb: str) -> list[Any]:
        try:
            return list(self._client.get_paginator(verb).paginate())
        except _ERRORS as error:
            raise ApiError(f"{verb}: {error}") from None

    async def describe_birth(self, instance_id: str) -> Birth:
        """Raises ApiError."""
        encoded, on_shutdown = await asyncio.gather(
            self._attribute(instance_id, "userData"), self._attribute(instance_id, "instanceInitiatedShutdownBehavior")
        )
        return Birth(base64.b64decode(encoded).decode(errors="replace"), on_shutdown or "stop")

    async def _attribute(self, instance_id: str, name: str) -> str:
        answer = await self._call("describe_instance_attribute", InstanceId=instance_id, Attribute=name)
        return (answer.get(name[0].upper() + name[1:]) or {}).get("Value") or ""

    async def size_of(self, instance_type: str) -> Size:
        """Raises ApiError."""
        if instance_type not in self._sizes:
            answer = await self._call("describe_instance_types", InstanceTypes=[instance_type])
            (found,) = answer["InstanceTypes"]
            self._sizes[instance_type] = Size(
                found["VCpuInfo"]["DefaultVCpus"] * 1000, found["MemoryInfo"]["SizeInMiB"] * 2**20
            )
        return self._sizes[instance_type]

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Raises ApiError."""
        await self._call("terminate_instances", InstanceIds=list(instance_ids))

    async def stop(self, instance_ids: Sequence[str]) -> None:
        """Raises ApiError."""
        await self._call("stop_instances", InstanceIds=list(instance_ids))

    async def _call(self, verb: str, **parameters: Any) -> Any:
        try:
            return await asyncio.to_thread(getattr(self._client, verb), **parameters)
        except _ERRORS as error:
            raise ApiError(f"{verb}: {error}") from None

    def close(self) -> None:
        self._client.close()


_ERRORS = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)
