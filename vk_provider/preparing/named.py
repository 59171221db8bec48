"""The images that the configuration names: each is a set of its own, prepared before a pod has used it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from vk_provider.aiokit.guard import contained
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.imagesets.sets import ImageSets
from vk_provider.podmodel.imagename import parse_image
from vk_provider.preparing.authority import PullAuthority

log = logging.getLogger(__name__)

RENEW_S = 600.0
"""Between two questions for what a name stands for."""
RETRY_S = 30.0
"""For the names that the registry has not confirmed."""


class NamedImages:
    """sets: takes what is wanted; wake: called then. clock: Unix seconds."""

    def __init__(
        self, sets: ImageSets, authority: PullAuthority, wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._sets, self._authority = sets, authority
        self._wake, self._clock = wake, clock
        self._unconfirmed: set[str] = set()
        self._left_out: set[str] = set()

    async def run(self, names: Sequence[str]) -> None:
        """Root task, never returns. names: references as pods have them, of images that a registry gives to anybody."""
        references = sorted({parse_image(name).canonical for name in names})
        left_s = 0.0  # until all are asked for again
        while True:
            asked = sorted(self._unconfirmed) if left_s > 0 else references
            left_s = left_s if left_s > 0 else RENEW_S
            for reference in asked:
                with contained(f"the named image {reference}"):
                    self._take(reference, await self._authority.prove(reference, {}))
            pause_s = min(left_s, RETRY_S) if self._unconfirmed else left_s
            await asyncio.sleep(pause_s)
            left_s -= pause_s

    def _take(self, reference: str, image: PinnedImage | None) -> None:
        if image is None:
            if reference not in self._unconfirmed:
                log.warning("images.named: the registry does not show %s to anybody: it is not prepared", reference)
            self._unconfirmed.add(reference)
            return
        self._unconfirmed.discard(reference)
        if self._sets.name(ImageSet.of([image]), self._clock()):
            self._left_out.discard(reference)
            self._wake()
        elif reference not in self._left_out:
            log.warning("images.named: the store of %s was given up, images.max_bytes has no room for it", reference)
            self._left_out.add(reference)
