"""Says on the pod how a pull goes that takes long or has other instances in it, beside the kubelet's own events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vk_provider import eventreasons
from vk_provider.agent.blobs.book import BlobBook, Origins, Progress
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.wire.images import ImageUse

FIRST_NOTE_S = 10.0
"""Into the pull; the next follows after twice the time, so a pull of an hour has nine."""


class PullNotes:
    """book: None where no blobs are followed."""

    def __init__(self, book: BlobBook | None, recorder: Recorder) -> None:
        self._book, self._recorder = book, recorder

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
        """The image is there: an event where it took long or peers had a part in it; returns `use` with the bytes."""
        if self._book is None:
            return use
        origins = await asyncio.to_thread(self._book.origins, use["digests"][:4], before)
        if origins.peers or seconds >= FIRST_NOTE_S:
            message = f'Image "{requested}" came as {describe_origins(origins)}'
            self._recorder.note(eventreasons.IMAGE_FETCHED, message, field_path)
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
