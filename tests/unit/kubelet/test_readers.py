"""Long answers are sent in parts: how one ends when something goes wrong halfway, and what a slow reader costs."""

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
from vk_provider.kubelet import readers, scrape
from vk_provider.kubelet.endpoints import metrics_cadvisor, pods
from vk_provider.kubelet.readers import Readers

CADVISOR, PODS = "/metrics/cadvisor", "/pods"
LIMIT_S = 120.0


class Watched(dict[str, Any]):
    """A sample, or the metadata of a pod."""


def ask(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {ADMIN['Authorization']}\r\n\r\n".encode()


def fill(rig: Rig, lines: int = 1, path: str = CADVISOR) -> weakref.ref[Watched]:
    """A pod with two families of so many lines each, or many that are as long. Returns what is kept for `path`."""
    sample, pod = Watched(make_sample()), make_pod()
    padding = "x" * 200
    metadata = pod["metadata"] = Watched(pod["metadata"])
    metadata["annotations"] = {"long": 50 * padding}
    sample["cadvisor"] = [
        {"container": "c", "samples": [[name, {"device": f"{padding}{number}"}, 1] for number in range(lines)]}
        for name in ("container_processes", "container_threads")
    ]
    handle = FakeHandle(pod, running_status(), make_instance(), stats=sample)
    rig.source.handles[:] = [handle] * (lines // 20 if path == PODS else 1)
    return weakref.ref(sample if path == CADVISOR else metadata)


def is_kept(sample: weakref.ref[Watched]) -> bool:
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
    writer.write(2 * ask(CADVISOR))
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


async def stall(rig: Rig, path: str = CADVISOR) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that asks, and reads no more than the beginning."""
    context = rig.ca.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port, ssl=context, limit=1024)
    writer.write(ask(path))
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


async def until_dropped(sample: weakref.ref[Watched]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while is_kept(sample):  # noqa: ASYNC110 - nobody tells of a sample that is gone
            await asyncio.sleep(0.05)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[asyncio.Timeout]]:
    """Of the answers under way. To be made before the server is."""
    made: list[Readers] = []

    class Known(Readers):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    for module in (scrape, pods):
        monkeypatch.setattr(module, "Readers", Known)
    return lambda: [limit for readers in made for limit in readers._limits]


@pytest.mark.parametrize("path", [CADVISOR, PODS])
async def test_pods_and_samples_are_kept_for_a_slow_reader_for_so_long_only(
    limits: Callable[[], list[asyncio.Timeout]], rig: Rig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(readers, "READ_LIMIT_S", 600.0)
    kept = fill(rig, LINES, path)
    began = asyncio.get_running_loop().time()
    reader, writer = await stall(rig, path)
    fill(rig)  # the next one has come
    (limit,) = limits()
    now, due = asyncio.get_running_loop().time(), limit.when()
    assert due is not None and began <= due - 600.0 <= now and is_kept(kept)
    limit.reschedule(now)  # as if so much time had passed
    await until_dropped(kept)
    found = await read_all(reader)
    writer.transport.abort()
    assert b"x" * 200 in found and not found.endswith(b"0\r\n\r\n")
    assert limits() == []


async def test_one_slow_reader_too_many_costs_the_first_its_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_READERS", 2)
    monkeypatch.setattr(readers, "READ_LIMIT_S", 600.0)
    samples, streams = [], []
    for _ in range(3):
        samples.append(fill(rig, LINES))
        streams.append(await stall(rig))
    fill(rig)
    await until_dropped(samples[0])
    assert is_kept(samples[1]) and is_kept(samples[2])
    assert not (await read_all(streams[0][0])).endswith(b"0\r\n\r\n")
    status, text, _ = await rig.ask("GET", "/metrics/cadvisor")
    assert status == 200 and "container_threads{" in text, "who reads at once has all of it"
    await until_dropped(samples[1])
    found = await read_all(streams[2][0], until=b"0\r\n\r\n")
    assert found.count(b"container_threads{") == LINES, "who is within the number has all of it, too"
    for _, writer in streams:
        writer.transport.abort()
