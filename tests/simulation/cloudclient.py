"""What one provider process calls the simulated cloud by. The only file here that speaks cloud.base.Cloud.

A call that was sent is carried out although its caller was killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.simulation.cloud import GROUP_LIMIT, OWNER, CloudServer
from tests.simulation.loop import Reply, outside_later
from tests.simulation.stores import build_stores
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
from vk_provider.cloud.codes import build_error
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.errors import CloudError


class CloudClient(Cloud):
    """vk_provider.cloud.base.Cloud of one process."""

    name = "simulated"
    shares_host_paths = False
    group_limit = GROUP_LIMIT

    def __init__(self, server: CloudServer) -> None:
        self._server = server
        self.listing_lag_s = server.listing_lag_s
        self._sweeping: asyncio.Task[None] | None = None

    def build_stores(self, *, sweeps: bool) -> ImageStores:
        """sweeps: whether it does so by itself."""
        stores = build_stores(self._server.stores, OWNER, self._server.offerings())
        if sweeps:
            self._sweeping = asyncio.create_task(stores.run(), name="sweep of prepared images")
        return stores

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _call(self, method: str, *arguments: Any) -> Any:
        server = self._server
        server.calls += 1
        reply = Reply()
        fault = server.draw(method)
        if fault == "partial" and method == "launch":
            method = "launch_in_part"
        elif fault == "partial" and method == "start_instances":
            method = "start_in_part"
        is_carried_out = fault != "throttled" and (fault not in ("lost", "broken") or server.coin())
        answer_s = server.latency_s() + (server.faults.late_s if fault == "late" else 0.0)

        def arrive() -> None:
            try:
                result = _run(getattr(server, method)(*arguments)) if is_carried_out else None
            except CloudError as error:
                result = error
            if fault == "throttled":
                result = build_error("RequestLimitExceeded", f"{method} is throttled")
            elif fault == "broken":
                result = build_error("InternalError", method)
            if fault != "lost":
                outside_later(answer_s, reply.deliver, result)

        outside_later(server.latency_s(), arrive)
        return await reply.wait()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await self._call("launch", request)

    async def list_page(self, page: str = "") -> InstancePage:
        return await self._call("list_page", page)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._call("describe", list(instance_ids))

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await self._call("terminate", list(instance_ids))

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await self._call("stop_instances", list(instance_ids))

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await self._call("start_instances", list(instance_ids))

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        await self._call("create_tags", list(instance_ids), dict(tags))

    async def notices(self) -> AsyncIterator[Notice]:
        queue = self._server.listen()
        while True:
            yield await queue.get()

    async def describe_offerings(self) -> list[Offering]:
        return await self._call("describe_offerings")

    async def describe_runtime(self) -> InstanceRuntime:
        return await self._call("describe_runtime")


def _run(coroutine: Any) -> Any:
    """What the model does takes no time and never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the cloud's model waits")
