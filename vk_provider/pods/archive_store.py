"""The files of the log archive: safe names, complete files only, a limit on their total size.

Layout: <root>/<pod UID>/<container>[.previous].log. All disk I/O runs in threads.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

_POD_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,252}")
"""Pattern of a pod's UID: one component of a path, never "." or "..", no hidden file."""
_CONTAINER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A DNS label: without a dot, so that no name ends in ".previous"."""
_PART = ".part"


class UnsafeNameError(ValueError):
    """A UID or container name whose path may lie outside the archive. The API server accepts no such name."""


class ArchiveStore:
    """Keeps the archive's total size below `max_bytes` by removing the pods that were archived first."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._sizes: dict[str, dict[str, int]] = {}  # by UID, oldest first, then by file name
        self._held = 0
        self._open: dict[str, int] = {}

    def path(self, uid: str, container: str, previous: bool) -> Path:
        """Path of the log, whether it exists or not. Raises UnsafeNameError."""
        if not _CONTAINER.fullmatch(container):
            raise UnsafeNameError(f"{container!r} is not a container's name")
        path = self._directory(uid) / f"{container}{'.previous' if previous else ''}.log"
        # The patterns allow no separator and no "..": this check does not depend on them, and covers links as well.
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise UnsafeNameError(f"the log of container {container!r} of pod {uid!r} would lie outside the archive")
        return path

    def _directory(self, uid: str) -> Path:
        if not _UID.fullmatch(uid):
            raise UnsafeNameError(f"{uid!r} is not a pod's UID")
        return self._root / uid

    async def create(self, uid: str, container: str, previous: bool) -> ArchiveFile:
        """A file to write to. Raises UnsafeNameError or OSError."""
        path = self.path(uid, container, previous)
        partial = path.with_name(path.name + _PART)
        self._open[uid] = self._open.get(uid, 0) + 1
        opening = asyncio.create_task(asyncio.to_thread(_open, partial), name=f"archive of {uid}")
        try:
            return ArchiveFile(self, uid, path, partial, await asyncio.shield(opening))
        except BaseException:
            self._close(uid)
            # A thread cannot be cancelled: it may still create the file, which is then discarded.
            await asyncio.wait({opening})
            if opening.exception() is None:
                await asyncio.to_thread(_discard, opening.result(), partial)
            raise

    def _close(self, uid: str) -> None:
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]

    async def reserve(self, count: int) -> None:
        """Reserve `count` bytes. Raises OSError (EDQUOT) when all archived logs are still being written."""
        self._held += count
        try:
            while self._held > self._max_bytes:
                oldest = next((uid for uid in self._sizes if uid not in self._open), None)
                if oldest is None:
                    raise OSError(errno.EDQUOT, f"the log archive is full ({self._max_bytes} bytes)")
                log.info("log archive: the logs of pod %s make room for newer ones", oldest)
                await self.remove(oldest)
        except BaseException:
            self._held -= count
            raise

    def _keep(self, uid: str, name: str, size: int) -> None:
        """Count a complete file of `size` reserved bytes, which replaces an older one of that name."""
        sizes = self._sizes.setdefault(uid, {})
        self._held -= sizes.get(name, 0)
        sizes[name] = size

    def _give_back(self, count: int) -> None:
        self._held -= count

    async def remove(self, uid: str) -> None:
        """Remove all logs of the pod."""
        directory = self._directory(uid)
        if uid not in self._sizes and uid not in self._open:
            return  # most pods end with nothing archived: no thread for them
        self._held -= sum(self._sizes.pop(uid, {}).values())
        await asyncio.to_thread(shutil.rmtree, directory, True)

    async def keep_only(self, uids: Iterable[str]) -> None:
        """Take over the files of an earlier process: keep the complete files of these pods. Files and directories
        that are not named like a pod are kept, too."""
        self._sizes = await asyncio.to_thread(_scan, self._root, set(uids))
        self._held = sum(sum(sizes.values()) for sizes in self._sizes.values())
        await self.reserve(0)


class ArchiveFile:
    """One log while it is written: it is in the archive after `keep`; `close` without `keep` discards it."""

    def __init__(self, store: ArchiveStore, uid: str, path: Path, partial: Path, file: BinaryIO) -> None:
        self._store, self._uid, self._path, self._partial, self._file = store, uid, path, partial, file
        self._kept = False
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Raises OSError: no room in the archive or on the disk."""
        await self._store.reserve(len(data))
        self.size += len(data)
        await asyncio.to_thread(self._file.write, data)

    async def keep(self) -> None:
        """Move the complete file into the archive."""
        await asyncio.to_thread(_finish, self._file, self._partial, self._path)
        self._kept = True
        self._store._keep(self._uid, self._path.name, self.size)

    async def close(self) -> None:
        """Must be called; discards the file unless it was kept. Completes even when the caller is cancelled."""
        self._store._close(self._uid)
        if self._kept:
            return
        self._store._give_back(self.size)
        await asyncio.shield(asyncio.to_thread(_discard, self._file, self._partial))


def _open(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path.open("wb")


def _finish(file: BinaryIO, partial: Path, path: Path) -> None:
    file.close()
    os.replace(partial, path)


def _discard(file: BinaryIO, partial: Path) -> None:
    try:
        file.close()  # writes the buffer, which fails on a full disk
    except OSError:
        pass
    partial.unlink(missing_ok=True)
    try:
        partial.parent.rmdir()  # unless other logs of the pod are there
    except OSError:
        pass


def _scan(root: Path, wanted: set[str]) -> dict[str, dict[str, int]]:
    """Sizes by UID and file name, oldest first; removes other pods and incomplete files."""
    found: list[tuple[float, str, dict[str, int]]] = []
    for directory in root.iterdir() if root.is_dir() else ():
        if not _POD_UID.fullmatch(directory.name) or directory.is_symlink():
            continue
        if directory.name not in wanted:
            shutil.rmtree(directory, True)
            continue
        archived_at, sizes = directory.stat().st_mtime, {}
        for path in directory.iterdir():
            if path.name.endswith(_PART):
                path.unlink(missing_ok=True)
            else:
                sizes[path.name] = path.lstat().st_size
        found.append((archived_at, directory.name, sizes))
    return {uid: sizes for _, uid, sizes in sorted(found, key=lambda item: item[0])}
