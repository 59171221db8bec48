"""What is scraped is sent in parts: how it ends when something goes wrong halfway, and what a slow reader costs."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.unit.kubelet.endpoints.test_stats import make_sample
from tests.unit.kubelet.rig import ADMIN, FakeHandle, Rig, make_instance, make_pod, running_status
from vk_provider.kubelet import scrape
from vk_provider.kubelet.endpoints import metrics_cadvisor

GET = f"GET /metrics/cadvisor HTTP/1.1\r\nHost: x\r\nAuthorization: {ADMIN['Authorization']}\r\n\r\n".encode()
LIMIT_S = 120.0


class Sample(dict[str, Any]):
    """One that can be watched."""


def fill(rig: Rig, lines: int = 1) -> weakref.ref[Sample]:
    """A pod with two families of so many lines each."""
    sample = Sample(make_sample())
    padding = "x" * 200
    sample["cadvisor"] = [
        {"container": "c", "samples": [[name, {"device": f"{padding}{number}"}, 1] for number in range(lines)]}
        for name in ("container_processes", "container_threads")
    ]
    rig.source.handles[:] = [FakeHandle(make_pod(), running_status(), make_instance(), stats=sample)]
    return weakref.ref(sample)


def is_kept(sample: weakref.ref[Sample]) -> bool:
    gc.collect()
    return sample() is not None


async def read_all(reader: asyncio.StreamReader, until: bytes = b"") -> bytes:
    """What comes until the connection is broken off or closed, or until the end of an answer."""
    found: list[bytes] = []
    async with asyncio.timeout(LIMIT_S):
        try:
            while chunk := await reader.read(1 << 16):
                found.append(chunk)
                if until and b"".join(found[-2:]).endswith(until):
                    break
        except ConnectionError:
            pass
    return b"".join(found)


@pytest.mark.parametrize("error", [ValueError("no such family"), web.HTTPNotFound(), web.HTTPBadRequest()], ids=repr)
async def test_an_error_in_the_middle_breaks_the_answer_off_and_begins_no_other(
    rig: Rig, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(rig)
    format_head = metrics_cadvisor.format_head

    def fail(name: str, kind: str, help_text: str) -> str:
        if name == "container_threads":
            raise error
        return format_head(name, kind, help_text)

    monkeypatch.setattr(metrics_cadvisor, "format_head", fail)
    reader, writer = await rig.open()
    writer.write(GET + GET)
    found = await read_all(reader)
    writer.transport.abort()
    assert found.count(b"HTTP/1.1") == 1 and b"container_processes{" in found
    assert not found.endswith(b"0\r\n\r\n"), "the answer must not look whole"
    monkeypatch.undo()
    assert (await rig.ask("GET", "/metrics/cadvisor"))[0] == 200


async def test_an_error_before_the_first_part_is_answered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(samples: Any) -> Iterator[str]:
        raise ValueError("nothing to say")

    monkeypatch.setattr(metrics_cadvisor, "render_cadvisor_metrics", fail)
    assert (await rig.ask("GET", "/metrics/cadvisor"))[:2] == (500, "Internal Error: nothing to say")


LINES = 20_000
"""Some twelve megabytes: more than sockets hold."""


async def stall(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that asks, and reads no more than the beginning."""
    context = rig.ca.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port, ssl=context, limit=1024)
    writer.write(GET)
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


async def until_dropped(sample: weakref.ref[Sample]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while is_kept(sample):  # noqa: ASYNC110 - nobody tells of a sample that is gone
            await asyncio.sleep(0.05)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[asyncio.Timeout]]:
    """Of the answers under way. To be made before the server is."""
    made: list[scrape._Readers] = []

    class Known(scrape._Readers):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(scrape, "_Readers", Known)
    return lambda: [limit for readers in made for limit in readers._limits]


async def test_samples_are_kept_for_a_slow_reader_for_so_long_only(
    limits: Callable[[], list[asyncio.Timeout]], rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "READ_LIMIT_S", 600.0)
    sample = fill(rig, LINES)
    began = asyncio.get_running_loop().time()
    reader, writer = await stall(rig)
    fill(rig)  # the agent has sent the next one
    (limit,) = limits()
    now, due = asyncio.get_running_loop().time(), limit.when()
    assert due is not None and began <= due - 600.0 <= now and is_kept(sample)
    limit.reschedule(now)  # as if so much time had passed
    await until_dropped(sample)
    found = await read_all(reader)
    writer.transport.abort()
    assert b"container_processes{" in found and not found.endswith(b"0\r\n\r\n")
    assert limits() == []


async def test_one_slow_reader_too_many_costs_the_first_its_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_READERS", 2)
    monkeypatch.setattr(scrape, "READ_LIMIT_S", 600.0)
    samples, readers = [], []
    for _ in range(3):
        samples.append(fill(rig, LINES))
        readers.append(await stall(rig))
    fill(rig)
    await until_dropped(samples[0])
    assert is_kept(samples[1]) and is_kept(samples[2])
    assert not (await read_all(readers[0][0])).endswith(b"0\r\n\r\n")
    status, text, _ = await rig.ask("GET", "/metrics/cadvisor")
    assert status == 200 and "container_threads{" in text, "who reads at once has all of it"
    await until_dropped(samples[1])
    found = await read_all(readers[2][0], until=b"0\r\n\r\n")
    assert found.count(b"container_threads{") == LINES, "who is within the number has all of it, too"
    for _, writer in readers:
        writer.transport.abort()
