"""Wakes waiters when a directory changes: one inotify descriptor for all watches of the process.

The kernel allows few inotify instances per user (often 128 for the whole machine), so the descriptor is opened with
the first watch and closed with the last. When none is to be had, `watch` says so and the caller falls back to a timer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_IGNORED = 0x8000

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_HEAD = struct.Struct("iIII")


class DirectoryWatch:
    """`changed` is set by every event; `mask` collects the event bits since `clear`. `active`: events do come."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed = asyncio.Event()
        self.mask = 0
        self.active = False

    def clear(self) -> int:
        """Forget what was seen and return it."""
        seen, self.mask = self.mask, 0
        self.changed.clear()
        return seen


class Inotify:
    """Watches directories (not what is below them)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._watches: dict[int, set[DirectoryWatch]] = {}

    @contextmanager
    def watch(
        self, path: str, mask: int = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO
    ) -> Iterator[DirectoryWatch]:
        """Watch a directory while the block runs. Never raises for lack of inotify: then `active` is False.

        All watches of one directory share the kernel's watch, so they should use the same mask.
        """
        watch = DirectoryWatch(path)
        number = self._add(path, mask)
        if number >= 0:
            watch.active = True
            self._watches.setdefault(number, set()).add(watch)
        try:
            yield watch
        finally:
            self._remove(number, watch)

    def _add(self, path: str, mask: int) -> int:
        if self._descriptor < 0:
            self._descriptor = self._libc.inotify_init1(_FLAGS)
            if self._descriptor < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        number = int(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))
        if number < 0:
            self._close_if_unused()
        return number

    def _remove(self, number: int, watch: DirectoryWatch) -> None:
        watches = self._watches.get(number)
        if watches is None:
            return
        watches.discard(watch)
        if not watches:
            del self._watches[number]
            self._libc.inotify_rm_watch(self._descriptor, number)
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._watches and self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, offset)
            offset += _HEAD.size + length
            for watch in self._watches.get(number, ()):
                watch.mask |= mask
                watch.changed.set()
