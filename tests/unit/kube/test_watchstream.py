"""The watch splitter: any cut of the bytes gives the same events."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from vk_provider.errors import KubeApiError
from vk_provider.kube.watchstream import split_events


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


EVENTS = [{"type": "ADDED", "object": {"metadata": {"name": f"p{number}", "uid": "ü"}}} for number in range(5)]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_events_survive_any_chunking(size: int) -> None:
    assert [event async for event in split_events(chunks(lines(*EVENTS), size))] == EVENTS


async def test_a_last_line_without_newline_counts() -> None:
    assert [event async for event in split_events(chunks(lines(*EVENTS)[:-1], 100))] == EVENTS


async def test_an_error_event_is_raised_with_its_code() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    with pytest.raises(KubeApiError, match="too old") as caught:
        [event async for event in split_events(chunks(lines({"type": "ERROR", "object": status}), 50))]
    assert (caught.value.status, caught.value.reason) == (410, "Expired")


async def test_a_line_cut_off_by_a_lost_connection_is_an_error() -> None:
    with pytest.raises(KubeApiError, match="invalid line"):
        [event async for event in split_events(chunks(lines(*EVENTS)[:-20], 50))]
