"""Which blobs a pod may have: those of the manifests that the registry shows to its credentials."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from vk_provider.imagesets.imageset import PinnedImage
from vk_provider.imagesets.need import find_need
from vk_provider.jsontypes import Json
from vk_provider.podmodel.imagemanifest import MAX_PARTS, Manifest, select_children
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.credentials import PullSecrets

MAX_MANIFESTS, MAX_KEPT_PARTS = 2_000, 100_000
MAX_CHILDREN = 8
MAX_NAMES = 2_000
Blob = tuple[str, str]
"""(repository, digest)"""
FRESH_S = 60.0
"""What a name stands for is not asked again for so long; whether a pod may have it is a matter of its pull record."""

Allowed = dict[str, tuple[tuple[Blob, ...], int]]
"""Digest to the blob in each repository of the pod's that has it, and its size in bytes."""


class ImageContents:
    """Manifests never change, so each is fetched once. clock: seconds."""

    def __init__(self, authority: PullAuthority, clock: Callable[[], float] = time.monotonic) -> None:
        self._authority, self._clock = authority, clock
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._kept_parts = 0
        self._names: OrderedDict[str, tuple[PinnedImage, float]] = OrderedDict()

    async def find_allowed(self, pod: Json, pull_secrets: PullSecrets, architecture: str) -> Allowed:
        """What the registry shows to the pod now. Never raises for a registry's sake."""
        references = sorted(find_need(pod).references)
        found = await asyncio.gather(*(self.find_blobs(each, pull_secrets, architecture) for each in references))
        allowed: Allowed = {}
        for repository, blobs in found:
            for digest, size in list(blobs.items())[: MAX_PARTS - len(allowed)]:
                known, _ = allowed.get(digest, ((), 0))
                allowed[digest] = ((*known, (repository, digest)), size)
        return allowed

    async def find_size(self, pod: Json, pull_secrets: PullSecrets, architecture: str) -> int:
        """Bytes of the blobs of the pod's images; 0 where the registry shows none."""
        return sum(size for _, size in (await self.find_allowed(pod, pull_secrets, architecture)).values())

    async def find_blobs(
        self, reference: str, pull_secrets: PullSecrets, architecture: str
    ) -> tuple[str, dict[str, int]]:
        """(repository, digest to size of the image's blobs); none where the registry shows nothing."""
        image = await self._find_image(reference, pull_secrets)
        if image is None:
            return "", {}
        manifest = await self._read(image, image.digest, pull_secrets)
        if manifest is None:
            return "", {}
        blobs = dict(manifest.blobs)
        for child in select_children(manifest, (architecture,))[:MAX_CHILDREN]:
            inner = await self._read(image, child, pull_secrets)
            if inner is not None:
                blobs |= inner.blobs
        return image.repository, blobs

    async def _find_image(self, reference: str, pull_secrets: PullSecrets) -> PinnedImage | None:
        known = self._names.get(reference)
        if known is not None and self._clock() < known[1] and self._authority.allows(known[0], pull_secrets):
            return known[0]
        image = await self._authority.prove(reference, pull_secrets)
        if image is not None:
            self._names[reference] = image, self._clock() + FRESH_S
            self._names.move_to_end(reference)
            if len(self._names) > MAX_NAMES:
                self._names.popitem(last=False)
        return image

    async def _read(self, image: PinnedImage, digest: str, pull_secrets: PullSecrets) -> Manifest | None:
        manifest = self._manifests.get(digest)
        if manifest is None:
            manifest = await self._authority.read_manifest(image, digest, pull_secrets)
            if manifest is None:
                return None
            if digest not in self._manifests:
                self._kept_parts += _count_parts(manifest)
            self._manifests[digest] = manifest
            while len(self._manifests) > MAX_MANIFESTS or self._kept_parts > MAX_KEPT_PARTS:
                self._kept_parts -= _count_parts(self._manifests.popitem(last=False)[1])
            return manifest
        self._manifests.move_to_end(digest)
        return manifest


def _count_parts(manifest: Manifest) -> int:
    return len(manifest.blobs) + len(manifest.children)
