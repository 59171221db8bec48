"""The stores of prepared images: made for the sets that were learned, one after the other, and given up when old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.cloud.imagestores import (
    CorruptImageError,
    ImageStoreError,
    ImageStores,
    PreparedStore,
    SourceLostError,
)
from vk_provider.errors import CloudError
from vk_provider.imagesets.need import find_need
from vk_provider.imagesets.sets import ImageSets, Store, Wanted
from vk_provider.pods.record import OnEvent, PodRecord
from vk_provider.preparing.firsttime import FirstTime
from vk_provider.preparing.metrics import ImageMetrics

log = logging.getLogger(__name__)

LIST_FIRST_S, LIST_MAX_S = 1.0, 60.0
RELIST_S = 600.0
"""A cloud may lose a store: a snapshot that somebody deletes, a machine image that has changed. The next pod of its
images then has another one made."""


@dataclass(frozen=True, slots=True)
class PodSide:
    """records: the pods of the provider. event: tells their owners."""

    records: Callable[[], Iterable[PodRecord]]
    event: OnEvent


class StoreUpkeep:
    """sets: others add what is wanted, and `wake` it. first: whose pods wait for a store. clock: Unix seconds.
    on_stores: called when there is another store."""

    def __init__(
        self,
        stores: ImageStores,
        sets: ImageSets,
        first: FirstTime,
        pods: PodSide,
        metrics: ImageMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._stores, self._sets, self._first = stores, sets, first
        self._pods, self._metrics, self._clock = pods, metrics, clock
        self._changed = asyncio.Event()
        self.on_stores: Callable[[], None] = lambda: None
        self._listed_at = 0.0

    def wake(self) -> None:
        """Another set is wanted."""
        self._changed.set()

    async def run(self) -> None:
        """Never returns: prepare one set after the other."""
        while True:
            self._changed.clear()
            wanted = self._sets.next_wanted(self._clock(), self._queued())
            if wanted is not None:
                await self._try(wanted)
            await self._give_up()
            await self._drop_lost()
            if wanted is None:
                await self._wait()

    async def find_stores(self) -> None:
        """Those of an earlier process."""
        backoff = Backoff(LIST_FIRST_S, LIST_MAX_S)
        while True:
            try:
                found = await self._stores.list_prepared()
                break
            except CloudError as error:
                log.warning("the prepared images are not known yet: %s", error)
            await asyncio.sleep(backoff.next_delay_s())
        now = self._listed_at = self._clock()  # when they were used last is not known any more
        for each in found:
            self._sets.add_store(store_of(each, each.prepared_at, now))

    async def _drop_lost(self) -> None:
        if self._clock() < self._listed_at + RELIST_S:
            return
        try:
            there = {store.handle for store in await self._stores.list_prepared()}
        except CloudError as error:
            log.warning("which prepared images are there is not known: %s", error)
            return
        self._listed_at = self._clock()
        for store in self._sets.stores:
            if store.handle not in there:
                log.info("a prepared store is gone: %s", ", ".join(sorted(store.images.references)))
                self._sets.remove_store(store.handle)

    async def _wait(self) -> None:
        due_at = self._sets.next_due_at()
        delay_s = max(1.0, due_at - self._clock()) if due_at is not None else None
        try:
            longest_s = min(self._sets.limits.max_age_s, RELIST_S)
            async with asyncio.timeout(min(delay_s or longest_s, longest_s)):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _queued(self) -> list[frozenset[str]]:
        """The references of pods that have no instance yet."""
        return [
            find_need(record.pod).references
            for record in self._pods.records()
            if record.instance is None and record.exists and not record.deleting
        ]

    async def _try(self, wanted: Wanted) -> None:
        """A fault of one set is that set's: it is tried again later, as after a failure."""
        is_done = False
        with contained(f"the image set {wanted.images.key}"):
            await self._prepare(wanted)
            is_done = True
        if not is_done:
            self._metrics.prepared.labels(ImageStoreError.cause).inc()
            self._sets.note_failure(wanted.images, self._clock(), wanted.architecture)
            self._first.settle(wanted.images.references)

    async def _prepare(self, wanted: Wanted) -> None:
        names = ", ".join(sorted(wanted.images.references))
        began = time.monotonic()
        try:
            is_awaited = self._first.is_awaited(wanted.images.references)
            made = await self._stores.prepare(
                wanted.images,
                wanted.sources,
                self._sets.limits.max_bytes,
                wanted.architecture,
                is_awaited=is_awaited,
            )
        except CloudError as error:
            cause = error.cause if isinstance(error, ImageStoreError) else "failed"
            self._metrics.prepared.labels(cause).inc()
            self._first.settle(wanted.images.references)
            if wanted.sources and isinstance(error, SourceLostError | CorruptImageError):
                for source in wanted.sources:
                    self._sets.forget_source(source)
            else:
                self._sets.note_failure(wanted.images, self._clock(), wanted.architecture)
            self._report(wanted, error)
            return
        now = self._clock()
        self._sets.add_store(store_of(made, now, now))
        # Wanted still where the store is of another architecture: not at once, or it would be made for ever.
        self._sets.note_failure(wanted.images, now, wanted.architecture)
        self._first.reopen(made.images.references)
        self.on_stores()
        self._metrics.prepared.labels("ok").inc()
        self._metrics.prepare_seconds.observe(time.monotonic() - began)
        log.info("images prepared in %.1f s: %s (%d bytes)", time.monotonic() - began, names, made.size_bytes)

    def _report(self, wanted: Wanted, error: CloudError) -> None:
        """An event on the pod that has pulled the images last, where it is there."""
        log.warning("images not prepared: %s: %s", ", ".join(sorted(wanted.images.references)), error)
        for record in self._pods.records():
            if record.instance is None or record.instance.instance_id not in wanted.sources[:1]:
                continue
            if isinstance(error, SourceLostError) and (record.deleting or not record.has_instance):
                continue  # the pod has ended: the next one brings them again
            message = f"the images are not prepared for the next pods, which pull them: {error}"
            self._pods.event(record, "Warning", eventreasons.IMAGES_NOT_PREPARED, message)

    async def _give_up(self) -> None:
        for handle in self._sets.surplus(self._clock(), self._queued()):
            try:
                await self._stores.forget(handle)
            except CloudError as error:
                log.warning("a prepared store stays for now: %s", error)
                continue
            self._sets.remove_store(handle)


def store_of(prepared: PreparedStore, prepared_at: float, used_at: float) -> Store:
    return Store(
        prepared.handle, prepared.images, prepared.size_bytes, prepared_at, used_at, architecture=prepared.architecture
    )
