"""Removes from the cache what older versions of this project have left there.

`python -m tests.cluster.prune venvs` keeps the environment it runs in. Something is old when nothing has used it for
two weeks: other checkouts on the machine share the cache. What a process still runs is never removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.cache import cache_dir

UNUSED_S = 14 * 86400.0


def mark_used(path: Path) -> None:
    """Remember that `path` is in use today; another user's cache stays as it is."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove_unused(directories: Iterable[Path], keep: Path) -> list[Path]:
    """Remove those of `directories` that are old, and not `keep`; which they were."""
    oldest = time.time() - UNUSED_S
    old = [path for path in directories if path != keep and path.is_dir() and path.stat().st_mtime < oldest]
    removed = [path for path in old if not is_running(path)]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def is_running(directory: Path) -> bool:
    """Whether a process of this machine was started from a file below `directory`."""
    prefix = f"{directory}/"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().decode(errors="replace").startswith(prefix):
                return True
            if os.readlink(process / "exe").startswith(prefix):
                return True
    return False


def main(arguments: list[str]) -> int:
    """Command line; 0."""
    if arguments != ["venvs"]:
        print("usage: python -m tests.cluster.prune venvs", file=sys.stderr)
        return 2
    mark_used(Path(sys.prefix))
    for path in remove_unused(cache_dir().glob("venv-*"), Path(sys.prefix)):
        print(f"removed {path}: not used for two weeks", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
