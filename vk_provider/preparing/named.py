"""The images that the configuration names: each is a set of its own, prepared before a pod has used it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from vk_provider.aiokit.guard import contained
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.imagesets.sets import ImageSets
from vk_provider.podmodel.imagename import parse_image
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.preparing.authority import PullAuthority
from vk_provider.registry.client import RegistryError

log = logging.getLogger(__name__)

RENEW_S = 600.0
"""Between two questions for what a name stands for."""
RETRY_S = 30.0
"""For the names that the registry has not confirmed."""


class Registry(Protocol):
    """Raises RegistryError."""

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]: ...


class NamedArchitectures:
    """offered: the architectures of the cloud's instances now. Of a digest the registry is asked once, and not where
    there is no choice."""

    def __init__(self, registry: Registry, offered: Callable[[], Collection[str]]) -> None:
        self._registry, self._offered = registry, offered
        self._known: dict[str, tuple[PinnedImage, frozenset[str]]] = {}
        """By reference."""

    async def find(self, image: PinnedImage) -> tuple[str, ...]:
        """Those that the cloud offers and the image has, in order; all that are offered where the registry does not
        tell."""
        offered = frozenset(self._offered())
        if len(offered) < 2:
            return tuple(offered) or ("",)
        known = self._known.get(image.reference)
        if known is None or known[0] != image:
            try:
                had = await self._registry.fetch_architectures(f"{image.repository}@{image.digest}", None)
            except RegistryError as error:
                log.info("the architectures of %s are not known: %s", image.reference, error)
                return tuple(sorted(offered))
            known = self._known[image.reference] = image, had
        return tuple(sorted(offered & known[1] if known[1] else offered))


async def _for_all(image: PinnedImage) -> tuple[str, ...]:
    return ("",)


class NamedImages:
    """sets: takes what is wanted; wake: called then. clock: Unix seconds."""

    def __init__(
        self, sets: ImageSets, authority: PullAuthority, wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._sets, self._authority = sets, authority
        self._wake, self._clock = wake, clock
        self._unconfirmed: set[str] = set()
        self._left_out: set[str] = set()
        self._unfit: set[str] = set()

    async def run(
        self, names: Sequence[str], architectures_of: Callable[[PinnedImage], Awaitable[tuple[str, ...]]] = _for_all
    ) -> None:
        """Root task, never returns. names: references as pods have them, of images that a registry gives to anybody.
        architectures_of: those that an image is prepared for, ("",) where one store is for all."""
        references = sorted({parse_image(name).canonical for name in names})
        left_s = 0.0  # until all are asked for again
        while True:
            asked = sorted(self._unconfirmed) if left_s > 0 else references
            left_s = left_s if left_s > 0 else RENEW_S
            for reference in asked:
                with contained(f"the named image {reference}"):
                    image = await self._authority.prove(reference, {})
                    if image is None:
                        self._note_unconfirmed(reference)
                    else:
                        self._take(image, await architectures_of(image))
            pause_s = min(left_s, RETRY_S) if self._unconfirmed else left_s
            await asyncio.sleep(pause_s)
            left_s -= pause_s

    def _note_unconfirmed(self, reference: str) -> None:
        if reference not in self._unconfirmed:
            log.warning("images.named: the registry does not show %s to anybody: it is not prepared", reference)
        self._unconfirmed.add(reference)

    def _take(self, image: PinnedImage, architectures: Sequence[str]) -> None:
        reference, images, now = image.reference, ImageSet.of([image]), self._clock()
        self._unconfirmed.discard(reference)
        if not architectures and reference not in self._unfit:
            log.warning("images.named: %s has no image for an architecture that the cloud offers", reference)
        (self._unfit.discard if architectures else self._unfit.add)(reference)
        kept = [self._sets.name(images, now, architecture) for architecture in architectures]
        if any(kept):
            self._wake()
        if all(kept):
            self._left_out.discard(reference)
        elif reference not in self._left_out:
            log.warning("images.named: a store of %s was given up, images.max_bytes has no room for it", reference)
            self._left_out.add(reference)
