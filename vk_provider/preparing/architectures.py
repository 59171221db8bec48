"""On which architectures all images of a pod run, by their manifests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from vk_provider.imagesets.need import find_need
from vk_provider.imagesets.records import fingerprint
from vk_provider.jsontypes import Json
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.preparing.credentials import PullSecrets, find_credentials
from vk_provider.registry.client import RegistryError

LIMIT_S = 4.0
"""For all images of a pod: a pod without an answer is launched as if its images did not tell."""
TAG_TTL_S = 900.0
DIGEST_TTL_S = 7 * 86400.0
"""What a digest stands for never changes."""
FAILURE_TTL_S = 60.0
MAX_IMAGES = 4096


_Key = tuple[str, tuple[str, ...]]
"""Reference, and fingerprints of the credentials that it was asked for with: what a registry tells to one is not told
to another, and least of all that it tells nothing."""


class Registry(Protocol):
    """Raises RegistryError."""

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]: ...


class ImageArchitectures:
    """Remembers what registries have said, and to whom. Pods that ask the same with the same credentials at the same
    time are one request."""

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._known: OrderedDict[_Key, tuple[frozenset[str], float]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[frozenset[str]]] = {}

    def peek(self, pod: Json) -> tuple[str, ...] | None:
        """Those that all images have, in order; () when an image does not tell; None when one must be asked, or the
        pod has credentials, which have to be read."""
        need = find_need(pod)
        if need.never_pulled or not need.references:
            return ()
        if pod["spec"].get("imagePullSecrets"):
            return None
        found = []
        for reference in need.references:
            known = self._known.get((reference, ()))
            if known is None or known[1] <= self._clock():
                return None
            found.append(known[0])
        return _intersect(found)

    async def find(self, pod: Json, pull_secrets: PullSecrets) -> tuple[str, ...]:
        """The same, asked for; () when there is no answer in time."""
        need = find_need(pod)
        if need.never_pulled or not need.references:
            return ()
        asked = [self._ask(reference, pull_secrets) for reference in sorted(need.references)]
        try:
            async with asyncio.timeout(LIMIT_S):
                return _intersect(await asyncio.gather(*map(asyncio.shield, asked)))
        except TimeoutError:
            return ()

    def _ask(self, reference: str, pull_secrets: PullSecrets) -> asyncio.Task[frozenset[str]]:
        credentials = find_credentials(reference, pull_secrets)
        key = reference, tuple(fingerprint(each, self._salt) for each in credentials)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, credentials or [None]), name=f"architectures of {reference}")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _fetch(self, key: _Key, candidates: Sequence[RegistryCredential | None]) -> frozenset[str]:
        known, reference = self._known.get(key), key[0]
        if known is not None and known[1] > self._clock():
            return known[0]
        found, ttl_s = frozenset[str](), FAILURE_TTL_S
        for credential in candidates:
            try:
                found = await self._registry.fetch_architectures(reference, credential)
            except RegistryError:
                continue
            ttl_s = DIGEST_TTL_S if "@" in reference else TAG_TTL_S
            break
        self._known.pop(key, None)
        self._known[key] = found, self._clock() + ttl_s
        if len(self._known) > MAX_IMAGES:
            self._known.popitem(last=False)
        return found

    async def close(self) -> None:
        """End the requests under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _intersect(found: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Images that share no architecture run nowhere: the Node's own is as good as any."""
    sets = list(found)
    return tuple(sorted(frozenset.intersection(*sets))) if all(sets) else ()
