"""Where built binaries live: `$XDG_CACHE_HOME/vk-provider`, else `~/.cache/vk-provider`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def cache_dir() -> Path:
    """The user's cache of this project. Everything in it can be deleted and is made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vk-provider"


@contextmanager
def file_lock(path: Path, waiting: str, out: TextIO) -> Iterator[None]:
    """Hold an exclusive flock on `path`; says `waiting` on `out` when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=out, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
