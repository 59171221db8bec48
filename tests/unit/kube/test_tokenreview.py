"""How many reviews of pods' tokens are open at once."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.kube.fakeclient import settle
from vk_provider.foundation import REVIEW_CONNECTIONS
from vk_provider.jsontypes import Json
from vk_provider.kube.tokenreview import TokenReviewer


class Api:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.open = 0
        self.gate = asyncio.Event()

    async def create(self, path: str, body: Json, timeout_s: float) -> Json:
        self.open += 1
        await self.gate.wait()
        self.open -= 1
        extra = {"authentication.kubernetes.io/pod-uid": [body["spec"]["token"]]}
        return {"status": {"authenticated": True, "audiences": ["a"], "user": {"extra": extra}}}


async def test_pods_leave_connections_to_clients_of_the_kubelet_api() -> None:
    api: Any = Api()
    reviewer = TokenReviewer(api)
    asking = [asyncio.create_task(reviewer.find_pod(f"u-{number}", "a")) for number in range(100)]
    await settle()
    assert api.open == REVIEW_CONNECTIONS // 2
    api.gate.set()
    assert await asyncio.gather(*asking) == [f"u-{number}" for number in range(100)]
