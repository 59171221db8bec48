"""Which prepared stores the instances of a pool start from: images that are there need no pull.

Every instance of a pool starts from one of the newest stores that anybody may have, as many from each, so that a pool
of two serves pods of two images. An instance of another store, or of none, is replaced while it is idle: soon when it
has no store or one that is no more, after a while when others are asked for by now, and one after the other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from vk_provider.instances.demand import Demand
from vk_provider.instances.instance import OwnedInstance

APART_S = 10.0
"""Between two replacements in one pool."""
ASKED_S = 300.0
"""An instance whose images are prepared still is not replaced earlier, though pods ask for others."""


class PoolImages(Protocol):
    """Of whoever prepares stores (preparing.poolstores). An instance of a pool is nobody's when it starts."""

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call once, if there are pools. on_change: other stores are there, or are known to be for anybody."""

    def newest(self, architecture: str) -> Sequence[str]:
        """Handles of the stores for instances of that architecture whose images anybody may have, without credentials:
        those first that pods have asked for last."""

    def is_for_anybody(self, handle: str) -> bool:
        """As far as that is known now."""

    def is_known(self, handle: str) -> bool:
        """Whether a launch may name it still."""


class NoPoolImages:
    """For a cloud that cannot have images ready."""

    def follow(self, on_change: Callable[[], None]) -> None:
        return

    def newest(self, architecture: str) -> Sequence[str]:
        return ()

    def is_for_anybody(self, handle: str) -> bool:
        return False

    def is_known(self, handle: str) -> bool:
        return False


class PoolStores:
    """boots_soon: see CloudAbility."""

    def __init__(self, images: PoolImages, *, boots_soon: bool) -> None:
        self._images, self._boots_soon = images, boots_soon

    def follow(self, on_change: Callable[[], None]) -> None:
        """See PoolImages.follow."""
        self._images.follow(on_change)

    def choose(self, had: Iterable[str], count: int, architecture: str) -> str:
        """The store for another instance of a pool of `count`, whose others have `had`; "" for none."""
        newest = self._images.newest(architecture)
        if not newest:
            return ""
        missing = plan_shares(newest, count)
        missing.subtract(had)
        return max(newest[:count] or newest[:1], key=lambda handle: missing[handle])  # of equal ones the first

    def may_have(self, owned: OwnedInstance, demand: Demand) -> bool:
        """Whether the pod may have what is on the instance, and is started sooner by it than by one of its own: where
        instances boot soon, it is not where its images would have to be pulled, and a store has them."""
        store = owned.image_store
        if store == demand.image_store:
            return True  # it has none, or the pod has proved that it may have that one
        if demand.image_store and self._boots_soon:
            return False
        return not store or self._images.is_for_anybody(store)

    def find_outdated(self, idle: Sequence[OwnedInstance], count: int) -> tuple[OwnedInstance | None, float]:
        """One to replace in a pool whose members are all idle, if there is one, and Unix seconds when that is due."""
        architectures = {owned.described.architecture for owned in idle}
        if len(architectures) != 1:
            return None, 0.0  # none of them, or they change over to another one
        newest = self._images.newest(*architectures)
        if not newest:
            return None, 0.0
        left = plan_shares(newest, count)
        found: tuple[OwnedInstance | None, float] = None, 0.0
        for owned in sorted(idle, key=lambda each: -each.described.launch_time):  # the last one stays
            left[owned.image_store] -= 1
            if left[owned.image_store] >= 0:
                continue
            is_known = self._images.is_known(owned.image_store)
            due_at = owned.described.launch_time + ASKED_S if is_known else time.time()
            if found[0] is None or due_at <= found[1]:
                found = owned, due_at
        return found if any(missing > 0 for missing in left.values()) else (None, 0.0)


def plan_shares(newest: Sequence[str], count: int) -> Counter[str]:
    """How many of `count` instances start from which store."""
    chosen = newest[:count]
    return Counter(chosen[number % len(chosen)] for number in range(count)) if chosen else Counter()
