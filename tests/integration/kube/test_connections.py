"""What hangs on one kind of call leaves the others alone: reviews, statuses, Leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.integration.kube.fakeapi import FakeApi, serving
from tests.integration.kube.waiting import until
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.kubelet.access import auth as auth_module
from vk_provider.kubelet.access.auth import Authenticator, AuthFilter, Authorizer
from vk_provider.node.lease import NodeLease

POOL = 4


class HangingApi(FakeApi):
    """Never answers a request whose path has one of `hangs` in it; `hanging` counts them."""

    def __init__(self, *hangs: str) -> None:
        super().__init__()
        self.hangs, self.hanging = hangs, 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if any(part in request.path for part in self.hangs):
            self.hanging += 1
            await asyncio.Event().wait()
        return web.json_response({"metadata": {"resourceVersion": "1"}, "path": request.path})


@asynccontextmanager
async def connected(api: FakeApi, directory: Path) -> AsyncIterator[tuple[KubeClient, KubeClient, KubeClient]]:
    """Clients for statuses, Leases and reviews, as the provider has them."""
    async with serving(api, directory) as kubeconfig:
        client = await KubeClient.connect(str(kubeconfig), pool_size=POOL)
        leases, reviews = client.with_connections(2), client.with_connections(POOL)
        try:
            yield client, leases, reviews
        finally:
            for each in (leases, reviews, client):
                await each.close()


async def test_reviews_that_hang_delay_neither_a_lease_nor_a_status(tmp_path: Path) -> None:
    api = HangingApi("tokenreviews", "subjectaccessreviews")
    async with connected(api, tmp_path) as (client, leases, reviews):
        auth = AuthFilter(Authenticator(reviews), Authorizer(reviews), "node-1")

        def request(token: str) -> web.Request:
            return make_mocked_request("GET", "/pods", headers={"Authorization": f"Bearer {token}"})

        asked = [
            asyncio.create_task(auth.refuse(request(f"t{number}")))
            for number in range(auth_module.REVIEWS_WAITING + 50)
        ]
        await until(lambda: api.hanging == POOL)
        async with asyncio.timeout(2):
            await NodeLease(leases, "node-1").renew(time.time())
            await client.patch_strategic(pod_path("ns", "p", "status"), {})
        refused = [task for task in asked if task.done()]
        assert len(refused) == 50
        assert {task.result().status for task in refused} == {401}
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_statuses_that_hang_delay_neither_a_lease_nor_a_review(tmp_path: Path) -> None:
    api = HangingApi("/status")
    async with connected(api, tmp_path) as (client, leases, reviews):
        path = pod_path("ns", "p", "status")
        patches = [asyncio.create_task(client.patch_strategic(path, {})) for _ in range(5 * POOL)]
        await until(lambda: api.hanging == POOL)
        async with asyncio.timeout(2):
            await NodeLease(leases, "node-1").renew(time.time())
            assert await reviews.create("/apis/authentication.k8s.io/v1/tokenreviews", {})
        for task in patches:
            task.cancel()
        await asyncio.gather(*patches, return_exceptions=True)
