"""Says on the pod how a pull goes that takes long, and where images came from, beside the kubelet's own events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from vk_provider import eventreasons
from vk_provider.agent.blobs.book import BlobBook, Origins, Progress
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.wire.images import ImageUse

FIRST_NOTE_S = 10.0
"""Into the pull; the next follows after twice the time, so a pull of an hour has nine."""
MAX_LOOKED_AT = 4
"""Digests of one image, whose manifests are read."""


class PullNotes:
    """book: None where no blobs are followed."""

    def __init__(self, book: BlobBook | None, recorder: Recorder) -> None:
        self._book, self._recorder = book, recorder
        self._told: set[str] = set()
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close()

    def note_present(self, digests: Sequence[str], requested: str, field_path: str) -> None:
        """The image is there without a pull: an event with its bytes, once for the pod and soon: its container does not
        wait for it."""
        if self._book is not None and digests and requested not in self._told:
            self._told.add(requested)
            self._tasks.spawn(self._tell_present(self._book, digests, requested, field_path), f"image {requested}")

    async def _tell_present(self, book: BlobBook, digests: Sequence[str], requested: str, field_path: str) -> None:
        size = await asyncio.to_thread(book.size_of, digests[:MAX_LOOKED_AT])
        if size:
            self._tell(requested, field_path, Origins(store=size))

    def _tell(self, requested: str, field_path: str, origins: Origins) -> None:
        self._recorder.note(
            eventreasons.IMAGE_FETCHED, f'Image "{requested}" came as {describe_origins(origins)}', field_path
        )

    @asynccontextmanager
    async def follow(self, requested: str, field_path: str) -> AsyncIterator[frozenset[str]]:
        """While a pull is under way. Yields the blobs that were there before."""
        if self._book is None:
            yield frozenset()
            return
        before = await asyncio.to_thread(self._book.blobs)
        task = asyncio.create_task(self._report(self._book, before, requested, field_path), name=f"pull {requested}")
        try:
            yield before
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _report(self, book: BlobBook, before: frozenset[str], requested: str, field_path: str) -> None:
        passed_s, pause_s = 0.0, FIRST_NOTE_S
        while True:
            await asyncio.sleep(pause_s)
            passed_s += pause_s
            pause_s = passed_s
            progress = await asyncio.to_thread(book.progress, before)
            message = f'Pulling image "{requested}" for {passed_s:.0f}s: {describe_progress(progress)}'
            self._recorder.note(eventreasons.IMAGE_PULL_PROGRESS, message, field_path)

    async def conclude(
        self, use: ImageUse, requested: str, field_path: str, before: frozenset[str], seconds: float
    ) -> ImageUse:
        """The image is there: an event where it took long or did not all come from the registry, and once for the pod
        where nothing of it was fetched; returns `use` with the bytes."""
        if self._book is None:
            return use
        origins = await asyncio.to_thread(self._book.origins, use["digests"][:MAX_LOOKED_AT], before)
        is_news = requested not in self._told or origins.peers or origins.registry
        self._told.add(requested)
        if seconds >= FIRST_NOTE_S or (is_news and (origins.store or origins.peers)):
            self._tell(requested, field_path, origins)
        return {
            **use,
            "storeBytes": origins.store,
            "peerBytes": origins.peers,
            "registryBytes": origins.registry,
        }


def describe_progress(progress: Progress) -> str:
    of = f" of {progress.total}" if progress.total else ""
    text = (
        f"{progress.peers + progress.registry}{of} bytes fetched and complete, "
        f"{progress.peers} from other instances and {progress.registry} from the registry"
    )
    return f"{text}, waiting for instance {progress.waits_for}" if progress.waits_for else text


def describe_origins(origins: Origins) -> str:
    return (
        f"{origins.peers} bytes from other instances, {origins.registry} from the registry; "
        f"{origins.store} bytes were there"
    )
