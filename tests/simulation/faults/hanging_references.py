"""The worker of a pod waits for its references, for as long as the API server does not answer."""

from __future__ import annotations

import asyncio

from vk_provider.kube import objects, tokens
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.record import PodRecord


def put_back() -> None:
    async def connect(self: PodExecutor, record: PodRecord) -> None:
        self._resolver.start(record)
        if record.resolving is not None:
            await asyncio.wait({record.resolving})
        self._connect(record)

    PodExecutor.connect = connect  # type: ignore[method-assign]
    objects._PATIENCE_S = objects._LIMIT_S = 3600.0
    tokens._ATTEMPTS = 1_000
