"""Large blocks of memory go back to the machine as soon as they are free.

The C library raises the size from which it maps blocks by themselves to that of the largest that was freed, and keeps
smaller ones for later: a process that gets a large message now and then, and is small otherwise, then has several times
that message for ever, in each of its threads (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes

LARGE_BYTES = 256 << 10
_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """For the rest of the process. Without effect where the C library knows no such option."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
