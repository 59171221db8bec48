"""The prepared stores that instances of pools may start from: those whose images the registry gives to anybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.imagesets.sets import ImageSets, Store
from vk_provider.preparing.authority import PullAuthority

log = logging.getLogger(__name__)

AGAIN_FIRST_S, AGAIN_MAX_S = 5.0, 600.0
TRIES = 20
"""With these pauses, of more than two hours."""


class PublicStores:
    """See instances.poolstores.PoolImages. sets: with the stores; authority: knows what needs no credentials."""

    def __init__(self, sets: ImageSets, authority: PullAuthority) -> None:
        self._sets, self._authority = sets, authority
        self._on_change: Callable[[], None] | None = None

    def follow(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def newest(self, architecture: str) -> Sequence[str]:
        fitting = [store for store in self._sets.stores if store.architecture in ("", architecture)]
        public = [store for store in fitting if self._is_public(store)]
        return [store.handle for store in sorted(public, key=lambda store: (-store.used_at, -store.prepared_at))]

    def is_for_anybody(self, handle: str) -> bool:
        return any(store.handle == handle and self._is_public(store) for store in self._sets.stores)

    def is_known(self, handle: str) -> bool:
        return any(store.handle == handle for store in self._sets.stores)

    def _is_public(self, store: Store) -> bool:
        return all(self._authority.allows(image, {}) for image in store.images.images)

    def changed(self) -> None:
        """Other stores are there."""
        if self._on_change is not None:
            self._on_change()

    async def prove(self) -> None:
        """After a start: of the stores of an earlier process the registry says again what it gives to anybody. One that
        does not answer is asked again, for hours; what pods prove meanwhile counts as well."""
        if self._on_change is None:
            return
        backoff, asked = Backoff(AGAIN_FIRST_S, AGAIN_MAX_S), self._find_unproved()
        for _ in range(TRIES):
            silent = set()
            for reference in sorted(asked):
                with contained(f"whether {reference} is for anybody"):
                    if not await self._authority.ask_for_anybody(reference):
                        silent.add(reference)
            self.changed()
            asked = silent & self._find_unproved()
            if not asked:
                return
            log.info("registries do not say whether they give %d images to anybody: asked again", len(asked))
            await asyncio.sleep(backoff.next_delay_s())
        log.warning(
            "pools are without the images that no registry has said it gives to anybody: %s", ", ".join(sorted(asked))
        )

    def _find_unproved(self) -> set[str]:
        """References of what is not known to be for anybody."""
        images = (image for store in self._sets.stores for image in store.images.images)
        return {image.reference for image in images if not self._authority.allows(image, {})}
