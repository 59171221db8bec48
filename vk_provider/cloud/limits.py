"""A Cloud with a time limit for every call: a call without an answer is a CloudError that may be retried.

The effect of a call without an answer is unknown. A launch is looked up by its tags and repeated with its client token;
a termination may simply be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vk_provider.cloud.base import (
    Cloud,
    Instance,
    InstancePage,
    InstanceRuntime,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    Offering,
    TerminateResult,
)
from vk_provider.errors import CloudError

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds by verb. A launch is the slowest: a group waits for the slots of the `local` cloud."""

    launch_s: float = 300.0
    list_s: float = 60.0
    describe_s: float = 60.0
    terminate_s: float = 60.0
    tags_s: float = 60.0
    offerings_s: float = 60.0


class LimitedCloud:
    """See cloud.base.Cloud. `start` and `close` are not limited: the process waits for them at start and stop. Nor are
    `notices`, which wait for what happens."""

    def __init__(self, cloud: Cloud, limits: CallLimits | None = None) -> None:
        self._inner = cloud
        self._limits = limits or CallLimits()
        self.name, self.shares_host_paths = cloud.name, cloud.shares_host_paths
        self.group_limit, self.listing_lag_s = cloud.group_limit, cloud.listing_lag_s

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await _limit("launch", self._inner.launch(request), self._limits.launch_s)

    async def list_page(self, page: str = "") -> InstancePage:
        return await _limit("list", self._inner.list_page(page), self._limits.list_s)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await _limit("describe", self._inner.describe(instance_ids), self._limits.describe_s)

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await _limit("terminate", self._inner.terminate(instance_ids), self._limits.terminate_s)

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        await _limit("create tags", self._inner.create_tags(instance_ids, tags), self._limits.tags_s)

    def notices(self) -> AsyncIterator[Notice]:
        return self._inner.notices()

    async def describe_offerings(self) -> list[Offering]:
        return await _limit("describe offerings", self._inner.describe_offerings(), self._limits.offerings_s)

    async def describe_runtime(self) -> InstanceRuntime:
        return await _limit("describe runtime", self._inner.describe_runtime(), self._limits.offerings_s)


async def _limit(verb: str, call: Awaitable[ResultT], limit_s: float) -> ResultT:
    scope = asyncio.timeout(limit_s)
    try:
        async with scope:
            return await call
    except TimeoutError:
        if not scope.expired():
            raise
        raise CloudError(f"{verb}: no answer within {limit_s:g} s") from None
