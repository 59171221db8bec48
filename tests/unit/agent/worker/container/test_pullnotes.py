"""What a pod's owner reads of a pull that takes long, or in which other instances have a part."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from vk_provider.agent.blobs.book import Origins, Progress
from vk_provider.agent.worker.container import pullnotes
from vk_provider.agent.worker.container.pullnotes import PullNotes
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.wire.images import ImageUse

DIGEST = "sha256:" + "1" * 64


class Sink:
    def __init__(self) -> None:
        self.events: list[str] = []

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.events.append(f"{event_type} {reason}: {message}")


class Book:
    def __init__(self, origins: Origins, waits_for: str = "") -> None:
        self._origins, self._waits_for = origins, waits_for

    def blobs(self) -> frozenset[str]:
        return frozenset({DIGEST})

    def progress(self, before: frozenset[str]) -> Progress:
        assert before == {DIGEST}
        return Progress(200, 100, 1000, self._waits_for)

    def size_of(self, digests: Iterable[str]) -> int:
        assert list(digests) == [DIGEST]
        return self._origins.store

    def origins(self, digests: Iterable[str], before: Iterable[str]) -> Origins:
        assert (list(digests), set(before)) == ([DIGEST], {DIGEST})
        return self._origins


def use() -> ImageUse:
    return ImageUse(image="a:1", digests=[DIGEST], sizeBytes=9, pulled=True, seconds=1.0)


async def run(book: Any, lasts_s: float, seconds: float) -> tuple[list[str], ImageUse]:
    sink = Sink()
    notes = PullNotes(book, Recorder(sink, "u"))
    async with notes.follow("a", "spec") as before:
        await asyncio.sleep(lasts_s)
    told = await notes.conclude(use(), "a", "spec", before, seconds)
    return sink.events, told


async def test_a_long_pull_says_how_much_is_there_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pullnotes, "FIRST_NOTE_S", 0.1)
    events, told = await run(Book(Origins(1, 0, 2), "i-9"), 0.5, 0.5)
    assert events[0] == (
        'Normal ImagePullProgress: Pulling image "a" for 0s: 300 of 1000 bytes fetched and complete, '
        "200 from other instances and 100 from the registry, waiting for instance i-9"
    )
    assert 1 <= len(events) - 1 <= 3
    assert events[-1] == (
        'Normal ImageFetched: Image "a" came as 0 bytes from other instances, 2 from the registry; 1 bytes were there'
    )
    assert (told["storeBytes"], told["peerBytes"], told["registryBytes"]) == (1, 0, 2)


async def test_a_short_pull_from_the_registry_says_nothing_more() -> None:
    events, told = await run(Book(Origins(0, 0, 2)), 0.0, 0.2)
    assert events == []
    assert told["registryBytes"] == 2


async def test_peers_are_told_of() -> None:
    events, _ = await run(Book(Origins(0, 5, 2)), 0.0, 0.2)
    assert [event.partition(":")[0] for event in events] == ["Normal ImageFetched"]


async def test_a_pull_that_found_parts_there_tells_of_them() -> None:
    events, _ = await run(Book(Origins(5, 0, 2)), 0.0, 0.2)
    assert events == [
        'Normal ImageFetched: Image "a" came as 0 bytes from other instances, 2 from the registry; 5 bytes were there'
    ]


async def test_an_image_that_is_there_tells_its_bytes_once_for_the_pod() -> None:
    sink, book = Sink(), Book(Origins(store=7))
    notes = PullNotes(book, Recorder(sink, "u"))
    for _ in range(3):
        notes.note_present([DIGEST], "a", "spec")
        await asyncio.sleep(0.05)
    assert sink.events == [
        'Normal ImageFetched: Image "a" came as 0 bytes from other instances, 0 from the registry; 7 bytes were there'
    ]
    await notes.close()


async def test_an_image_that_was_pulled_for_the_pod_is_not_told_to_have_been_there() -> None:
    sink, book = Sink(), Book(Origins(0, 0, 2))
    notes = PullNotes(book, Recorder(sink, "u"))
    async with notes.follow("a", "spec") as before:
        pass
    await notes.conclude(use(), "a", "spec", before, 0.2)
    notes.note_present([DIGEST], "a", "spec")
    await asyncio.sleep(0.05)
    assert sink.events == []


async def test_what_has_no_known_parts_says_nothing() -> None:
    sink, book = Sink(), Book(Origins())
    notes = PullNotes(book, Recorder(sink, "u"))
    notes.note_present([DIGEST], "a", "spec")
    notes.note_present([], "b", "spec")
    await asyncio.sleep(0.05)
    assert sink.events == []


async def test_a_pull_that_fails_ends_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pullnotes, "FIRST_NOTE_S", 0.02)
    sink, book = Sink(), Book(Origins())
    notes = PullNotes(book, Recorder(sink, "u"))
    with pytest.raises(RuntimeError):
        async with notes.follow("a", "spec"):
            raise RuntimeError
    await asyncio.sleep(0.1)
    assert sink.events == []


async def test_without_a_book_nothing_changes() -> None:
    events, told = await run(None, 0.0, 100.0)
    assert events == [] and told == use()


async def test_pulls_that_fetch_nothing_tell_once_for_the_pod_that_all_was_there() -> None:
    """imagePullPolicy Always, at each restart of a container."""
    sink, book = Sink(), Book(Origins(store=7))
    notes = PullNotes(book, Recorder(sink, "u"))
    for _ in range(3):
        async with notes.follow("a", "spec") as before:
            pass
        await notes.conclude(use(), "a", "spec", before, 0.2)
    assert len(sink.events) == 1
    await notes.close()
