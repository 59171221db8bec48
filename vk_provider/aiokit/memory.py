"""How the C library keeps the memory that this process has freed (mallopt(3)).

It raises the size from which it maps blocks by themselves to that of the largest that was freed, and keeps smaller ones
for later: a process that gets a large message now and then, and is small otherwise, then has several times that message
for ever, in each of its threads.
"""

from __future__ import annotations

import ctypes

LARGE_BYTES = 256 << 10
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def return_large_blocks(large_bytes: int = LARGE_BYTES) -> None:
    """Large blocks go back to the machine as soon as they are free, for the rest of the process. Without effect where
    the C library knows no such option."""
    _set(_M_MMAP_THRESHOLD, large_bytes)


def keep_spare(spare_bytes: int) -> None:
    """So much that is free at the end of the heap stays with the process, instead of going back to the machine just
    before it is wanted again. Without effect where the C library knows no such option."""
    _set(_M_TRIM_THRESHOLD, spare_bytes)


def share_one_arena() -> None:
    """Threads that are started from now on allocate where the first one does; none keeps what it has freed for itself.
    Without effect where the C library knows no such option."""
    _set(_M_ARENA_MAX, 1)


def _set(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
