"""The type of a decoded JSON object, and its text where it is kept for long."""

from __future__ import annotations

from typing import Any

import orjson

Json = dict[str, Any]


def to_text(document: Json) -> bytes:
    """JSON in memory of its own size, a third or less of what the object takes: what orjson returns may hold several
    times as much."""
    return bytes(memoryview(orjson.dumps(document)))
