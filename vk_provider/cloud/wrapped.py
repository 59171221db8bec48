"""A cloud behind another: each verb is passed on within something that is done around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Literal, TypeVar

from vk_provider.cloud.base import (
    Cloud,
    Instance,
    InstancePage,
    InstanceRuntime,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    Offering,
    StateResult,
    TerminateResult,
)

ResultT = TypeVar("ResultT")
Verb = Literal["launch", "list", "describe", "terminate", "stop", "start", "tags", "offerings", "runtime"]


class WrappedCloud:
    """See cloud.base.Cloud. `start`, `close` and `notices` are no calls of the cloud's API and pass as they are."""

    def __init__(self, cloud: Cloud) -> None:
        self._inner = cloud
        self.name, self.shares_host_paths = cloud.name, cloud.shares_host_paths
        self.group_limit, self.listing_lag_s = cloud.group_limit, cloud.listing_lag_s

    async def _around(self, verb: Verb, call: Awaitable[ResultT]) -> ResultT:
        """Awaits `call`, once."""
        raise NotImplementedError

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await self._around("launch", self._inner.launch(request))

    async def list_page(self, page: str = "") -> InstancePage:
        return await self._around("list", self._inner.list_page(page))

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._around("describe", self._inner.describe(instance_ids))

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await self._around("terminate", self._inner.terminate(instance_ids))

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await self._around("stop", self._inner.stop_instances(instance_ids))

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await self._around("start", self._inner.start_instances(instance_ids))

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        await self._around("tags", self._inner.create_tags(instance_ids, tags))

    def notices(self) -> AsyncIterator[Notice]:
        return self._inner.notices()

    async def describe_offerings(self) -> list[Offering]:
        return await self._around("offerings", self._inner.describe_offerings())

    async def describe_runtime(self) -> InstanceRuntime:
        return await self._around("runtime", self._inner.describe_runtime())
