"""Splits the body of a watch into events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import orjson

from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json


async def split_events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Json]:
    """Yield {"type", "object"} per line. Raises KubeApiError for an ERROR event and for an invalid line.

    Yields to the loop after every chunk: reading a burst that is buffered already would not.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        for line in lines:
            if line:
                yield _parse_event(line)
        await asyncio.sleep(0)
    if rest.strip():
        yield _parse_event(rest)


def _parse_event(line: bytes) -> Json:
    try:
        event: Json = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise KubeApiError(NO_ANSWER, "BrokenWatch", f"watch sent an invalid line: {error}") from error
    if event.get("type") == "ERROR":
        status = event.get("object") or {}
        raise KubeApiError(int(status.get("code") or 0), status.get("reason") or "", status.get("message") or "")
    return event
