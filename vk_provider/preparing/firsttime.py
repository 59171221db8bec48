"""The first time of images, where instances share one machine: the pods that come while one is pulling wait for the
store that is made of what it has pulled, as unpacking the same layers for each of them would take longer.

A first pod goes at once. The others wait until there is a store, until it is known that there will be none, until the
first pod is gone (the next one takes its place), or for a time that grows with the size of the images.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vk_provider.jsontypes import Json
from vk_provider.preparing.credentials import PullSecrets

References = frozenset[str]

MIN_BYTES = 16 << 20
"""Compressed. Smaller images are pulled and unpacked sooner than a store is prepared."""
BASE_S, RATE = 10.0, 4e6
"""A pod waits this, and a second for so many bytes: pulling, unpacking twice and a busy machine."""
MAX_SETTLED = 1_000


@dataclass(frozen=True, slots=True)
class FirstTimeRules:
    """pioneers and limit_s: see FirstTime. size_of: bytes of a pod's images, as the registry shows them to its secrets;
    0: it shows none."""

    pioneers: int
    limit_s: float
    size_of: Callable[[Json, PullSecrets], Awaitable[int]]


async def _no_size(pod: Json, pull_secrets: PullSecrets) -> int:
    return 0


NOBODY_WAITS = FirstTimeRules(0, 0.0, _no_size)


class FirstTime:
    """pioneers: pods of one set of images that go at once; limit_s: nobody waits longer. ready: whether the set has a
    store."""

    def __init__(self, pioneers: int, limit_s: float, ready: Callable[[References], bool]) -> None:
        self._count, self._limit_s, self._ready = pioneers, limit_s, ready
        self._pioneers: dict[References, set[str]] = {}
        self._settled: OrderedDict[References, None] = OrderedDict()
        """Sets of which there will be no store for now."""
        self._changed: dict[References, asyncio.Event] = {}
        self._waiting: Counter[References] = Counter()

    def must_wait(self, references: References, uid: str) -> bool:
        """Whether the pod has to `wait`; otherwise it goes, and may be the one that others wait for."""
        if self._limit_s <= 0 or not references or references in self._settled or self._ready(references):
            return False
        pioneers = self._pioneers.setdefault(references, set())
        if uid in pioneers or len(pioneers) < self._count:
            pioneers.add(uid)
            return False
        return True

    async def wait(self, references: References, uid: str, size: int) -> None:
        """Until the pod may go. size: of the images in bytes."""
        limit_s = min(self._limit_s, BASE_S + size / RATE)
        self._waiting[references] += 1
        try:
            async with asyncio.timeout(limit_s):
                while self.must_wait(references, uid):
                    await self._changed.setdefault(references, asyncio.Event()).wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[references] -= 1
            if not self.is_awaited(references):
                del self._waiting[references]
                self._changed.pop(references, None)

    def is_awaited(self, references: References) -> bool:
        """Whether a pod waits for their store."""
        return self._waiting[references] > 0

    def settle(self, references: References) -> None:
        """Nothing is to be prepared, or it cannot be: nobody waits for it any more."""
        self._settled[references] = None
        self._settled.move_to_end(references)
        if len(self._settled) > MAX_SETTLED:
            self._settled.popitem(last=False)
        self.wake(references)

    def reopen(self, references: References) -> None:
        """The set is prepared after all: when its store is gone, it is a first time again."""
        self._settled.pop(references, None)
        self._pioneers.pop(references, None)
        self.wake(references)

    def leave(self, uid: str) -> None:
        """The pod is gone."""
        for references, pioneers in list(self._pioneers.items()):
            if uid in pioneers:
                pioneers.discard(uid)
                if not pioneers:
                    del self._pioneers[references]
                self.wake(references)

    def wake(self, references: References) -> None:
        changed = self._changed.pop(references, None)
        if changed is not None:
            changed.set()
