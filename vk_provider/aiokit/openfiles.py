"""The limit of open files: raised for this process, as Go's runtime does, and left as it was for what it starts.

Sessions, streams and log files take one file each; the usual soft limit of 1,024 is there for programs that use
select(2). What this process starts on behalf of pods must not inherit more than it would have had.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

_found: tuple[int, int] | None = None


def raise_limit() -> None:
    """Soft limit = hard limit."""
    global _found
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of open files stays %d: %s", soft, error)
        return
    _found = soft, hard


def restore_limit(pid: int) -> None:
    """Give a child that was just started the limit that this process was started with."""
    if _found is None:
        return
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _found)
    except (OSError, ValueError) as error:
        log.warning("the limit of open files of process %d stays raised: %s", pid, error)
