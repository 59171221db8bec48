"""The type of a decoded JSON object, and its text and its strings where they are kept for long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import orjson

Json = dict[str, Any]


def to_text(document: Json | list[Any]) -> bytes:
    """JSON in memory of its own size, a third or less of what the object takes: what orjson returns may hold several
    times as much."""
    return bytes(memoryview(orjson.dumps(document)))


share_text: Callable[[str], str] = sys.intern if sys.version_info[:2] != (3, 12) else str
"""The one copy of a string, as long as somebody has it. Python 3.12 had releases that never forget one
(python/cpython#113993), and users and agents bring new ones all the time."""
