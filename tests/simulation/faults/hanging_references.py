"""The worker of a pod waits for its references, for as long as the API server does not answer."""

from __future__ import annotations

import asyncio

from vk_provider.kube import objects, tokens
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.record import PodRecord


def put_back() -> None:
    right = PodExecutor.connect

    async def connect(self: PodExecutor, record: PodRecord) -> None:
        self.sender.read(record)
        if record.reading.task is not None:
            await asyncio.wait({record.reading.task})
        await right(self, record)

    PodExecutor.connect = connect
    objects._PATIENCE_S = objects._LIMIT_S = 3600.0
    tokens._ATTEMPTS = 1_000
