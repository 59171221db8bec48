"""What the cloud offers at the moment: asked for again now and then, with the memory that agents report."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence

from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import Cloud, Offering, OfferingKey, offering_key
from vk_provider.errors import CloudError
from vk_provider.instances.shortages import Shortages
from vk_provider.sizing.index import OfferingIndex
from vk_provider.sizing.memory import LearnedMemory
from vk_provider.sizing.selection import OfferingSelector

log = logging.getLogger(__name__)

JITTER = 0.2
"""Share of the interval by which it varies, so that providers do not ask together."""
GATHER_S = 0.5
"""What agents say in that time is one change: after a start, hundreds greet."""


class OfferingBook:
    """selector: chooses from the newest offerings; shortages: which of them the cloud lacks; architectures: of all."""

    def __init__(self, offerings: Sequence[Offering], clock: Callable[[], float] = time.monotonic) -> None:
        self._nominal = list(offerings)
        self._learned = LearnedMemory()
        self._by_type = {offering.instance_type: offering for offering in offerings}
        self._by_key = {offering_key(offering): offering for offering in offerings}
        self.architectures = frozenset(offering.architecture for offering in offerings)
        self._pending: asyncio.TimerHandle | None = None
        self._tasks = BackgroundTasks()
        self._rebuilding = asyncio.Lock()
        self.selector = OfferingSelector(offerings)
        self.shortages = Shortages(offerings, clock)

    def find(self, instance_type: str) -> Offering | None:
        """An offering of that type, with the memory that is known of it, also when it is not offered any more; None for
        one that never was."""
        nominal = self._by_type.get(instance_type)
        return self._learned.apply(nominal) if nominal is not None else None

    def find_exact(self, key: OfferingKey) -> Offering | None:
        """The offering, at the last price that was known; None for what was never offered."""
        return self._by_key.get(key)

    def learn(self, instance_type: str, memory_bytes: int) -> None:
        """The agent of an instance of that type has said what it has."""
        nominal = self._by_type.get(instance_type)
        if nominal is not None and self._learned.observe(nominal, memory_bytes) and self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(GATHER_S, self._on_learned)

    async def run(self, cloud: Cloud, ttl_s: float) -> None:
        """Ask the cloud again after `ttl_s`, for ever; what it said last stays while it does not answer."""
        if math.isinf(ttl_s):
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(ttl_s * random.uniform(1 - JITTER, 1 + JITTER))
            try:
                found = await cloud.describe_offerings()
            except CloudError as error:
                log.warning("the offerings and prices stay as they were: %s", error)
                continue
            if not found:
                log.warning("the cloud says that it offers nothing: the offerings stay as they were")
            elif found != self._nominal:
                self._nominal = found
                self._by_type |= {offering.instance_type: offering for offering in found}
                self._by_key |= {offering_key(offering): offering for offering in found}
                self.architectures = frozenset(offering.architecture for offering in found)
                self.shortages.replace_offerings(found)
                await self._rebuild()

    def _on_learned(self) -> None:
        self._pending = None
        self._tasks.spawn(self._rebuild(), "offerings with learned memory")

    async def _rebuild(self) -> None:
        """In a thread: thousands of offerings would hold the event loop up. One at a time: the last one counts."""
        async with self._rebuilding:
            offerings = [self._learned.apply(each) for each in self._nominal]
            self.selector.replace_index(await asyncio.to_thread(OfferingIndex, offerings))

    async def close(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        await self._tasks.close()
