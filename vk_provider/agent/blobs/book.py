"""BlobBook: which blobs the runtime waits for, fetches and has, where they came from, and what the provider answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vk_provider.agent.blobs.content import MAX_MANIFEST_GUESS_BYTES, ContentStore
from vk_provider.aiokit.inotify import IN_CREATE, IN_DELETE, IN_MOVED_TO, DirectoryWatch, Inotify
from vk_provider.wire.blobs import (
    MAX_FAILURES,
    MAX_HELD,
    MAX_WANTED,
    BlobAnswer,
    BlobFailure,
    BlobsMessage,
    SourcesMessage,
)

FIRST_ANSWER_S = 8.0
"""A provider that has not answered by then is not asked any more until it says something."""
WAIT_LIMIT_S = 120.0
"""For another instance's download. containerd 2 gives up a pull without a byte for five minutes
(image_pull_progress_timeout), 1.6 never."""
MAX_FAILURES_IN_ROW = 3
"""Then the rest of the pull is the registry's: the network lets instances not reach each other, say."""
SCAN_S = 2.0
"""Between two looks at the store where the kernel has no inotify instance left."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Bytes of an image by where they came from: store: they were on the instance before the pull, or their layers
    were, unpacked for another image, so that the runtime did not fetch them."""

    store: int = 0
    peers: int = 0
    registry: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the pulls under way. total: bytes of their images' parts as far as they are known, 0 while they are not;
    waits_for: another instance that fetches what is needed, "" for none."""

    peers: int
    registry: int
    total: int
    waits_for: str


class BlobBook:
    """send: takes the newest message; pod_uid: of this instance's pod, "" before it has one."""

    def __init__(self, content: ContentStore, send: Callable[[BlobsMessage], None], pod_uid: Callable[[], str]) -> None:
        self.content = content
        self._send, self._pod_uid = send, pod_uid
        self.key = ""
        """For the grants of those that ask this agent; "" while the provider wants no blobs handed on."""
        self._wanted: dict[str, asyncio.Event] = {}
        self._answers: dict[str, BlobAnswer] = {}
        self._fetching: dict[str, None] = {}
        self._held: dict[str, int] = {}
        self._from_peers: set[str] = set()
        self._fetched: dict[str, int] = {}
        """Blobs that have come since the agent began to look."""
        self._failures: dict[tuple[str, str], None] = {}
        self._arrivals: dict[str, asyncio.Event] = {}
        self._is_silent = False
        self._failed_in_row = 0
        self._pulls = 0
        self._pulling = asyncio.Event()
        self._watch: DirectoryWatch | None = None
        self._is_scanned = False

    # --- the provider --------------------------------------------------------------------------------------------

    def receive(self, message: SourcesMessage) -> None:
        """Answers of the provider."""
        is_first, self.key = not self.key, message["key"]
        self._is_silent = False
        self._answers = {answer["digest"]: answer for answer in message["answers"]}
        for event in self._wanted.values():
            event.set()
        if is_first:
            self._tell()

    def _tell(self) -> None:
        uid = self._pod_uid()
        if not self.key or not uid:
            return
        self._send(
            BlobsMessage(
                type="blobs",
                podUID=uid,
                wanted=list(self._wanted)[:MAX_WANTED],
                fetching=list(self._fetching)[-MAX_WANTED:],
                held=list(self._held)[:MAX_HELD],
                failed=[BlobFailure(digest=digest, instance=name) for digest, name in self._failures],
                peerBytes=sum(size for digest, size in self._fetched.items() if digest in self._from_peers),
                registryBytes=sum(size for digest, size in self._fetched.items() if digest not in self._from_peers),
            )
        )

    # --- the mirror ----------------------------------------------------------------------------------------------

    def is_open_to_peers(self, digest: str) -> bool:
        """Whether it makes sense to ask for a source; each blob is tried once in a pull."""
        is_heard = bool(self.key) and not self._is_silent and self._failed_in_row < MAX_FAILURES_IN_ROW
        return is_heard and digest not in self._fetching and len(self._wanted) < MAX_WANTED

    async def ask(self, digest: str) -> BlobAnswer | None:
        """A source, None for the registry. The blob counts as wanted until `fetch_from_registry` or `hold`."""
        changed = self._wanted[digest] = asyncio.Event()
        self._answers.pop(digest, None)
        self._tell()
        started = time.monotonic()
        while True:
            answer = self._answers.get(digest)
            if answer is not None and answer["kind"] != "wait":
                return answer if answer["kind"] == "peer" and answer["size"] > 0 else None
            limit_s = FIRST_ANSWER_S if answer is None else WAIT_LIMIT_S
            try:
                async with asyncio.timeout(max(0.0, started + limit_s - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                self._is_silent = self._is_silent or answer is None
                return None
            changed.clear()

    def fetch_from_registry(self, digest: str) -> None:
        """The runtime is sent to the registry."""
        self._wanted.pop(digest, None)
        self._fetching[digest] = None
        self._tell()

    def note_failure(self, digest: str, instance_id: str) -> None:
        self._failed_in_row += 1
        self._failures[(digest, instance_id)] = None
        while len(self._failures) > MAX_FAILURES:
            del self._failures[next(iter(self._failures))]

    def hand_over(self, digest: str) -> None:
        """A peer has delivered it: it is in the store in a moment."""
        self._from_peers.add(digest)
        self._failed_in_row = 0

    def give_up(self, digest: str) -> None:
        """The runtime asks for it no more."""
        if self._wanted.pop(digest, None) is not None:
            self._tell()

    # --- the store -----------------------------------------------------------------------------------------------

    async def run(self, inotify: Inotify) -> None:
        """Root task: follow containerd's content store while images are pulled. An idle instance watches nothing: the
        kernel has few inotify instances."""
        self._look(await asyncio.to_thread(self.content.scan))
        while True:
            await self._pulling.wait()
            while self._pulling.is_set():
                path = await asyncio.to_thread(self.content.nearest_directory)
                with inotify.watch(str(path), IN_CREATE | IN_MOVED_TO | IN_DELETE) as watch:
                    self._watch = watch
                    await self._follow(path, watch)
                    self._watch = None
            held = await asyncio.to_thread(self.content.scan)
            is_left = any(digest not in held for digest in self._fetching)
            if not self._pulling.is_set():
                self._fetching.clear()
                self._failed_in_row = 0
            self._look(held)
            if is_left:
                self._tell()

    async def _follow(self, path: Path, watch: DirectoryWatch) -> None:
        """Until no image is pulled any more, or the directory of the blobs is there at last."""
        while self._pulling.is_set():
            self._look(await asyncio.to_thread(self.content.scan))
            if path != self.content.directory and await asyncio.to_thread(self.content.directory.exists):
                return
            try:
                async with asyncio.timeout(None if watch.active else SCAN_S):
                    await watch.changed.wait()
            except TimeoutError:
                pass
            watch.clear()
            if not await asyncio.to_thread(path.exists):
                return

    def _look(self, held: dict[str, int]) -> None:
        if self._is_scanned and held.keys() == self._held.keys():
            return
        if self._is_scanned:
            self._fetched |= {digest: size for digest, size in held.items() if digest not in self._held}
        self._held, self._is_scanned = held, True
        for digest in [digest for digest in self._arrivals if digest in held]:
            self._arrivals[digest].set()
        for digest in [digest for digest in self._wanted if digest in held]:
            del self._wanted[digest]
        for digest in [digest for digest in self._fetching if digest in held]:
            del self._fetching[digest]
        self._tell()

    async def wait_held(self, digest: str, limit_s: float) -> None:
        """Until the blob is in the store, or for so long."""
        arrival = self._arrivals.setdefault(digest, asyncio.Event())
        try:
            async with asyncio.timeout(limit_s):
                while digest not in self._held:
                    await arrival.wait()
        except TimeoutError:
            pass
        finally:
            self._arrivals.pop(digest, None)

    # --- pulls ---------------------------------------------------------------------------------------------------

    def pull_began(self) -> None:
        self._pulls += 1
        self._pulling.set()

    def pull_ended(self) -> None:
        """What the runtime fetches no more is free for others to fetch, once the store was looked at."""
        self._pulls -= 1
        if self._pulls > 0:
            return
        self._pulling.clear()
        if self._watch is not None:
            self._watch.changed.set()

    def origins(self, digests: Iterable[str], before: Iterable[str]) -> Origins:
        """Where the parts of an image came from. digests: of its index or manifest; before: see `blobs`. Blocks for a
        moment."""
        had, has, sums = set(before), self.blobs(), {"store": 0, "peers": 0, "registry": 0}
        parts: dict[str, int] = {}
        for digest in digests:
            parts |= self.content.parts_of(digest)
        for digest, size in parts.items():
            was_there = digest in had or digest not in has
            name = "store" if was_there else "peers" if digest in self._from_peers else "registry"
            sums[name] += size
        return Origins(**sums)

    def size_of(self, digests: Iterable[str]) -> int:
        """Bytes of an image's parts. digests: of its index or manifest. Blocks for a moment."""
        parts: dict[str, int] = {}
        for digest in digests:
            parts |= self.content.parts_of(digest)
        return sum(parts.values())

    def blobs(self) -> frozenset[str]:
        """What is there now. Blocks for a moment."""
        return frozenset(self.content.scan())

    def progress(self, before: frozenset[str]) -> Progress:
        """Since `before`. Blocks for a moment."""
        new = {digest: size for digest, size in self._held.items() if digest not in before}
        total = 0
        for digest, size in new.items():
            manifest = self.content.read_manifest(digest) if size <= MAX_MANIFEST_GUESS_BYTES else None
            if manifest is not None:
                total += sum(manifest.blobs.values())
        waits_for = [self._answers[each].get("instance", "") for each in self._wanted if each in self._answers]
        peers = sum(size for digest, size in new.items() if digest in self._from_peers)
        return Progress(peers, sum(new.values()) - peers, total, next(filter(None, waits_for), ""))
