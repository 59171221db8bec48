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
"""After a registry has not confirmed a name."""


class NamedImages:
    """sets: takes what is wanted; wake: called then. clock: Unix seconds."""

    def __init__(
        self, sets: ImageSets, authority: PullAuthority, wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._sets, self._authority = sets, authority
        self._wake, self._clock = wake, clock
        self._unconfirmed: set[str] = set()

    async def run(self, names: Sequence[str]) -> None:
        """Root task, never returns. names: references as pods have them, of images that a registry gives to anybody."""
        references = sorted({parse_image(name).canonical for name in names})
        while True:
            for reference in references:
                with contained(f"the named image {reference}"):
                    self._take(reference, await self._authority.prove(reference, {}))
            await asyncio.sleep(RETRY_S if self._unconfirmed else RENEW_S)

    def _take(self, reference: str, image: PinnedImage | None) -> None:
        if image is None:
            if reference not in self._unconfirmed:
                log.warning("images.named: the registry does not show %s to anybody: it is not prepared", reference)
            self._unconfirmed.add(reference)
            return
        self._unconfirmed.discard(reference)
        self._sets.name(ImageSet.of([image]), self._clock())
        self._wake()
