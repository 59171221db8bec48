"""Watches files that are renewed from outside: a mounted Secret, a certificate that an operator replaces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

CHECK_S = 10.0


class FileChanges:
    """Detects changes since its construction: construct it before the files are first read.

    Mounted Secrets change by renaming links above the file, so what the paths lead to is compared.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._stamps()

    async def run(self, take: Callable[[], bool]) -> None:
        """Call `take` after each change, until cancelled. False: not usable (yet), so it is called again and again;
        files that belong together may be replaced one after the other."""
        while True:
            await asyncio.sleep(CHECK_S)
            stamps = self._stamps()
            if stamps != self._seen and take():
                self._seen = stamps

    def _stamps(self) -> list[tuple[int, int]]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino
