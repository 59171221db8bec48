"""The prepared stores that instances of pools may start from: those whose images the registry gives to anybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vk_provider.aiokit.guard import contained
from vk_provider.imagesets.sets import ImageSets, Store
from vk_provider.preparing.authority import PullAuthority


class PublicStores:
    """See instances.poolstores.PoolImages. sets: with the stores; authority: knows what needs no credentials."""

    def __init__(self, sets: ImageSets, authority: PullAuthority) -> None:
        self._sets, self._authority = sets, authority
        self._on_change: Callable[[], None] | None = None

    def follow(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def newest(self) -> Sequence[str]:
        public = [store for store in self._sets.stores if self._is_public(store)]
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
        """After a start: of the stores of an earlier process the registry says again what it gives to anybody."""
        if self._on_change is None:
            return
        asked = {
            image.reference
            for store in self._sets.stores
            for image in store.images.images
            if not self._authority.allows(image, {})
        }
        for reference in sorted(asked):
            with contained(f"whether {reference} is for anybody"):
                await self._authority.prove(reference, {})
        self.changed()
