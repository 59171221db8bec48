"""When the first table is made: everything was listed, and what this cluster does not have is not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.kube.fakeclient import FakeClient
from vk_provider.errors import KubeApiError
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.routing.service import ServiceRouting


@asynccontextmanager
async def following() -> AsyncIterator[ServiceRouting]:
    services = ServiceEnvironment(FakeClient())
    made = ServiceRouting(FakeClient(), services, CollectorRegistry())
    made.add_node("n1", ())

    async def never() -> None:
        await asyncio.Event().wait()

    made._slices.run = made._cidrs.run = never
    task = asyncio.create_task(made.run())
    services.synced.set()
    made._slices.synced.set()
    await asyncio.sleep(0)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settle(routing: ServiceRouting) -> bool:
    """Whether the compiler knows everything."""
    for _ in range(10):
        await asyncio.sleep(0)
    return routing.compiler._complete


@pytest.mark.parametrize(("status", "complete"), [(404, True), (403, True), (0, False), (503, False)])
async def test_service_cidrs_that_the_cluster_does_not_have_are_not_waited_for(status: int, complete: bool) -> None:
    async with following() as routing:
        assert not await settle(routing)
        routing._cidrs_failed(KubeApiError(status, "", ""))
        assert await settle(routing) == complete
        routing._cidrs.synced.set()
        assert await settle(routing)
