"""The order of a directory's test files, for its conftest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest


def sort_files(items: list[pytest.Item], directory: Path, order: Sequence[str]) -> None:
    """Sort the directory's tests by the names of their files, leave all others where they are."""
    ours = [item for item in items if item.path.parent == directory]
    ours.sort(key=lambda item: order.index(item.path.name))
    following = iter(ours)
    items[:] = [next(following) if item.path.parent == directory else item for item in items]
