"""Terminates instances in batches, with a result for each; the caller waits for one try only.

An instance that cannot be terminated is retried in the background, so that it delays neither its pod nor a replacement
nor the rest of a batch. After STUCK_AFTER_S it is reported: an event on its pod, a metric, an error in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.batch import Batcher
from vk_provider.cloud.base import Cloud
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

TERMINATE_WINDOW_S = 0.02
TERMINATE_BATCH = 200
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
STUCK_AFTER_S = 300.0
"""An instance that could not be terminated for so long is reported: it costs money and needs an operator."""

OnStuck = Callable[[str], None]
"""Called once with a message for the owner of the instance's pod."""


class InstanceTerminator:
    """`pending`: IDs of instances that are retried in the background; `stuck`: those for longer than STUCK_AFTER_S."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._batch: Batcher[str, None] = Batcher(
            self._terminate, window_s=TERMINATE_WINDOW_S, max_items=TERMINATE_BATCH
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.stuck: set[str] = set()

    @property
    def pending(self) -> frozenset[str]:
        return frozenset(self._tasks)

    async def _terminate(self, instance_ids: Sequence[str]) -> list[None | Exception]:
        return list(await self._cloud.terminate(list(instance_ids)))

    async def end(self, instance_id: str, on_stuck: OnStuck = lambda message: None) -> bool:
        """One try. Returns whether the cloud accepted it; if not, it is retried in the background until it does."""
        if instance_id in self._tasks:
            return False
        try:
            await self._batch.submit(instance_id)
        except CloudError as error:
            log.warning("instance %s is not terminated, retrying in the background: %s", instance_id, error)
            task = asyncio.create_task(self._retry(instance_id, on_stuck), name=f"terminate {instance_id}")
            self._tasks[instance_id] = task
            task.add_done_callback(lambda _: self._ended(instance_id))
            return False
        return True

    async def _retry(self, instance_id: str, on_stuck: OnStuck) -> None:
        since, backoff = time.monotonic(), Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            await asyncio.sleep(backoff.next_delay_s())
            try:
                await self._batch.submit(instance_id)
            except Exception as error:  # no unexpected error may end this task, the only one that retries
                if instance_id not in self.stuck and time.monotonic() - since >= STUCK_AFTER_S:
                    self.stuck.add(instance_id)
                    text = f"instance {instance_id} cannot be terminated and still costs money: {error}"
                    log.error("%s", text)
                    on_stuck(text)
                continue
            log.info("instance %s is terminated after retries", instance_id)
            return

    def _ended(self, instance_id: str) -> None:
        self._tasks.pop(instance_id, None)
        self.stuck.discard(instance_id)

    async def close(self) -> None:
        """Cancel all retries; the orphan sweep of the next process continues."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._batch.close()
