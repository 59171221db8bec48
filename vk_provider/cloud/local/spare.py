"""Containerd roots made ahead of time, so that a launch only renames a directory into place."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import time
from pathlib import Path

from vk_provider.cloud.local.images import SharedImages
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)


class SpareRoots:
    """Keeps up to `count` roots with the shared images below `directory`/<pid>, private to this process."""

    def __init__(self, images: SharedImages, directory: Path, count: int) -> None:
        for entry in directory.iterdir() if directory.exists() else ():
            if not os.path.exists(f"/proc/{entry.name}"):
                shutil.rmtree(entry, ignore_errors=True)  # of a process that was killed
        self.images = images
        self._directory = directory / str(os.getpid())
        self._directory.mkdir(parents=True, exist_ok=True)
        self._count = count
        self._names = itertools.count(time.monotonic_ns())
        self._ready: list[Path] = []
        self._task: asyncio.Task[None] | None = None

    def take(self, target: Path) -> None:
        """Put a root at `target` (must not exist); called in a thread. Raises CloudError."""
        try:
            self._ready.pop().rename(target)
        except (IndexError, FileNotFoundError):
            self.images.make_root(target)

    def refill(self) -> None:
        """Make missing spares in the background."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refill(), name="spare containerd roots")

    async def _refill(self) -> None:
        while len(self._ready) < self._count:
            path = self._directory / str(next(self._names))
            try:
                await asyncio.to_thread(self.images.make_root, path)
            except CloudError as error:
                log.warning("no containerd roots ahead of time, tried again at the next launch: %s", error)
                return
            self._ready.append(path)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._ready.clear()
        await asyncio.to_thread(shutil.rmtree, self._directory, True)
