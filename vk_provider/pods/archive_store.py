"""The files of the log archive: safe names, whole files only, a bound on all of them together.

Layout: <root>/<pod UID>/<container>[.previous].log. Everything that touches the disk runs in a thread.
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
"""What a pod's UID may look like: one component of a path, never "." or "..", no hidden file."""
_CONTAINER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A DNS label: without a dot, so that no name ends in ".previous"."""
_PART = ".part"


class UnsafeNameError(ValueError):
    """A UID or container name that would lead out of the archive. The API server admits none of these."""


class ArchiveStore:
    """Counts what the archive holds; where it would be more than `max_bytes`, the pods archived first go first."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._sizes: dict[str, dict[str, int]] = {}  # by UID, oldest first, then by file name
        self._held = 0
        self._open: dict[str, int] = {}

    def path(self, uid: str, container: str, previous: bool) -> Path:
        """Where the log stands or would stand. Raises UnsafeNameError."""
        if not _CONTAINER.fullmatch(container):
            raise UnsafeNameError(f"{container!r} is not a container's name")
        path = self._directory(uid) / f"{container}{'.previous' if previous else ''}.log"
        # The patterns allow no separator and no "..": this holds whatever becomes of them, and for links as well.
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
            # A thread cannot be cancelled: the file comes to be although nobody wants it any more.
            await asyncio.wait({opening})
            if opening.exception() is None:
                await asyncio.to_thread(_discard, opening.result(), partial)
            raise

    def _close(self, uid: str) -> None:
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]

    async def reserve(self, count: int) -> None:
        """Make room for so many bytes more. Raises OSError when there is none: all of it is being written now."""
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
        """`size` bytes that were reserved are a whole file now, in the place of an older one."""
        sizes = self._sizes.setdefault(uid, {})
        self._held -= sizes.get(name, 0)
        sizes[name] = size

    def _give_back(self, count: int) -> None:
        self._held -= count

    async def remove(self, uid: str) -> None:
        """All logs of the pod."""
        directory = self._directory(uid)
        self._held -= sum(self._sizes.pop(uid, {}).values())
        await asyncio.to_thread(shutil.rmtree, directory, True)

    async def keep_only(self, uids: Iterable[str]) -> None:
        """Take over what an earlier process left: whole files of these pods stay. What is not named like a pod is not
        ours and stays, too."""
        self._sizes = await asyncio.to_thread(_scan, self._root, set(uids))
        self._held = sum(sum(sizes.values()) for sizes in self._sizes.values())
        await self.reserve(0)


class ArchiveFile:
    """One log while it is written: nothing of it counts before `keep`, and `discard` leaves nothing."""

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
        """The file is whole."""
        await asyncio.to_thread(_finish, self._file, self._partial, self._path)
        self._kept = True
        self._store._keep(self._uid, self._path.name, self.size)

    async def close(self) -> None:
        """Call in every case; without `keep` before, the file is discarded. Goes on when the caller is cancelled."""
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
        file.close()  # writes what is buffered, which fails on a full disk
    except OSError:
        pass
    partial.unlink(missing_ok=True)


def _scan(root: Path, wanted: set[str]) -> dict[str, dict[str, int]]:
    """Sizes by UID and file name, oldest first; removes pods that are not wanted and parts of files."""
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
