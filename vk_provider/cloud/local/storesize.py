"""How large a prepared store is, and a limit to it while it grows: an image unpacks to what its layers say, and a
registry sends what it likes."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from vk_provider.cloud.local.takeover import TooLargeError


def measure(target: Path, base: Path) -> int:
    """Bytes on the disk of what is below `target` and not, as the same file, below `base`. Of content that other
    stores have, too, each counts all."""
    return _sum(target, _read_sizes(base).keys())


class SizeLimit:
    """For what a command writes below a directory. max_bytes: on the disk, beside what is below `base` as the same
    file; what: is measured, in words."""

    def __init__(self, directory: Path, max_bytes: int, what: str, base: Path | None = None) -> None:
        self._directory, self._max_bytes, self._what = directory, max_bytes, what
        self._known = frozenset(_read_sizes(base)) if base is not None else frozenset[int]()

    def check(self) -> None:
        """Raises TooLargeError."""
        if _sum(self._directory, self._known) > self._max_bytes:
            raise TooLargeError(f"more than {self._max_bytes} bytes {self._what}")


def _sum(directory: Path, known: Collection[int]) -> int:
    return sum(size for inode, size in _read_sizes(directory).items() if inode not in known)


def _read_sizes(directory: Path) -> dict[int, int]:
    """Inode to bytes on the disk. What goes away meanwhile is left out."""
    found: dict[int, int] = {}
    waiting = [os.fspath(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found[status.st_ino] = status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue
    return found
