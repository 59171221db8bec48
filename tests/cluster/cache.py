"""Where built binaries live: `$XDG_CACHE_HOME/vk-provider`, else `~/.cache/vk-provider`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress

POLL_S = 0.2
"""Between two looks at a lock that somebody else holds."""


def cache_dir() -> Path:
    """The user's cache of this project. Everything in it can be deleted and is made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vk-provider"


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive flock on `path`. Raises ClusterError at once while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if not _try_lock(handle):
            handle.seek(0)
            pid = handle.read(20).strip()
            advice = f"wait until it has ended{f', or end it: kill {pid}' if pid.isdecimal() else ''}"
            raise ClusterError(f"another {what} is at work", advice)
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


@contextmanager
def file_lock(path: Path, waiting: str, out: TextIO) -> Iterator[None]:
    """Hold an exclusive flock on `path`; says `waiting`, and for how long, on `out` while another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(waiting, out)
    with path.open("a") as handle:
        while not _try_lock(handle):
            progress.tick()
            time.sleep(POLL_S)
        progress.end_line()
        yield


def _try_lock(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
