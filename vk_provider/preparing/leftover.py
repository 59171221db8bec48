"""What is left of prepared images once none are prepared any more: it is paid for still, so the bill has it until it is
as old as stores may be, and then it is removed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

from vk_provider.aiokit.guard import contained
from vk_provider.cloud.codes import code_of
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.errors import CloudError
from vk_provider.imagesets.sets import Store
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.upkeep import store_of

log = logging.getLogger(__name__)

LOOK_S = 600.0
"""Between two looks. Nothing is removed by the first one: whoever has switched it off by mistake has this time."""


class LeftStores:
    """stores: of a cloud that is not asked to prepare any. max_age_s: since a store was made: when it was used last
    nobody knows any more. clock: Unix seconds."""

    def __init__(
        self, stores: ImageStores, max_age_s: float, metrics: ImageMetrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._stores, self._max_age_s, self._clock = stores, max_age_s, clock
        self._left: list[Store] = []
        self._trouble = ""
        metrics.follow(lambda: self._left, lambda: 0)

    async def run(self) -> None:
        """Root task, never returns."""
        await self._attempt(self._look())
        while True:
            await asyncio.sleep(LOOK_S)
            await self._attempt(self._remove())

    async def _attempt(self, work: Coroutine[None, None, None]) -> None:
        """A fault of the cloud's is said once: whoever has never prepared any may not be allowed to look."""
        with contained("what is left of prepared images"):
            try:
                await work
                self._trouble = ""
            except CloudError as error:
                if code_of(error) != self._trouble:  # its text may be another one each time
                    log.warning("whether prepared images are left is not known: %s", error)
                self._trouble = code_of(error)

    async def _look(self) -> None:
        """The cloud tells the bill what is kept."""
        before = len(self._left)
        found = await self._stores.list_prepared()
        self._left = [store_of(each, each.prepared_at, each.prepared_at) for each in found]
        if self._left and not before:
            log.warning(
                "no images are prepared any more, and %d stores of earlier ones are left (%d bytes), paid for where "
                "disks are: each is removed %g s after it was made (images.max_age_s)",
                *(len(self._left), sum(each.size_bytes for each in self._left), self._max_age_s),
            )

    async def _remove(self) -> None:
        await self._look()
        for store in list(self._left):
            if self._clock() - store.prepared_at > self._max_age_s:
                await self._stores.forget(store.handle)
                self._left.remove(store)
                log.info("the prepared store %s is removed: no images are prepared any more", store.handle)
        await self._stores.sweep(nobody_prepares=True)
