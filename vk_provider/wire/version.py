"""Versions of the wire contract and how two sides agree on one."""

from __future__ import annotations

from collections.abc import Iterable

SUPPORTED_VERSIONS: tuple[int, ...] = (1,)
"""Newest last."""


def select_version(theirs: Iterable[int]) -> int | None:
    """Return the newest version both sides speak, or None."""
    common = set(SUPPORTED_VERSIONS).intersection(theirs)
    return max(common) if common else None
