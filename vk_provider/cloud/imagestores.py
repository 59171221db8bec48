"""The ability of a cloud to have images ready: prepared stores that new instances start from.

A store holds the images of one set and whatever every instance of the cloud has, as a runtime that has pulled them
would hold them: content, unpacked layers, names; nothing of any pod. An instance that is launched with the handle of a
store (LaunchRequest.image_store) has its images and cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vk_provider.cloud.base import Instance
from vk_provider.errors import CloudError
from vk_provider.imagesets.imageset import ImageSet


class ImageStoreError(CloudError):
    """A store could not be prepared; those that exist are as they were. `cause` names the kind in metrics."""

    cause = "failed"


class SourceLostError(ImageStoreError):
    """None of the instances has what is needed any more: the next one that pulls the images may have."""

    cause = "source-lost"


class CorruptImageError(ImageStoreError):
    """An instance has offered content that is not of its digest."""

    cause = "corrupt"


class StoreRefusedError(ImageStoreError):
    """The runtime does not accept the images: a manifest or a layer that it cannot read, no image for the platform."""

    cause = "refused"


class StoreFullError(ImageStoreError):
    """There is no room: the set is larger than allowed, or the disk (the account) is full."""

    cause = "full"


class NoBudgetError(ImageStoreError):
    """What prepares the store would cost more than may be spent now."""

    cause = "budget"


class BuilderDiedError(ImageStoreError):
    """What prepares stores has ended unexpectedly, or took too long."""

    cause = "builder-died"


@dataclass(frozen=True, slots=True)
class PreparedStore:
    """size_bytes: that it takes beside what every instance has; prepared_at: Unix seconds; architecture: of the
    instances that may start from it, "" for all."""

    handle: str
    images: ImageSet
    size_bytes: int
    prepared_at: float
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class KeptStore:
    """What is paid for because a store is kept, whether or not it is of any use. key: of its image set, "" where that
    is not known; since: Unix seconds."""

    handle: str
    key: str
    since: float
    usd_per_hour: float


class StoreCosts(Protocol):
    """Whoever counts what prepared stores cost."""

    def may_spend(self, usd_per_hour: float) -> bool:
        """Whether there is room for so much more, for one instance, that no pod waits for."""

    def note_builder(self, builder: Instance) -> None:
        """It was launched. Listings show it later (InstancePage.builders)."""

    def note_ended(self, instance_id: str) -> None:
        """The builder's termination was accepted."""

    def note_kept(self, kept: Sequence[KeptStore]) -> None:
        """All that is kept now."""


class NoCosts:
    """Nobody counts."""

    def may_spend(self, usd_per_hour: float) -> bool:
        return True

    def note_builder(self, builder: Instance) -> None: ...

    def note_ended(self, instance_id: str) -> None: ...

    def note_kept(self, kept: Sequence[KeptStore]) -> None: ...


class ImageStores(Protocol):
    """One call of `prepare` at a time; the others may come at any time. After a restart of the provider the stores are
    still there: `list_prepared` is all that is known of them.

    shares_machine: whether instances and what prepares stores share one machine: its processors limit a first time
    """

    shares_machine: bool

    def follow_costs(self, costs: StoreCosts) -> None:
        """Once, before anything else, where they cost something."""

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        """Make the store of a set, or return the one that exists. It appears whole or not at all.

        sources:   instances (IDs) that have pulled the images, those to ask first first. What they offer is checked by
                   its digest, and nothing is fetched from a registry where the cloud can reach their disks. Empty: the
                   cloud fetches the images itself, as anybody may
        max_bytes: limit of the store's size_bytes
        architecture: of the instances that are to start from it, "" for that of the sources, or the cloud's first. A
                   launch that names a store of the same images for another architecture gets the one that fits
        is_awaited: pods wait for it: on a machine that is shared it does not stand back behind all others
        Raises ImageStoreError, or another CloudError when the cloud does not answer.
        """

    async def list_prepared(self) -> list[PreparedStore]:
        """Those that a launch may name. Raises CloudError."""

    async def forget(self, handle: str) -> None:
        """No launch names it any more. It is removed once no instance uses it; an unknown handle is no error. Raises
        CloudError."""

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        """Remove what is of no use to anybody, as whoever prepares does by itself; where nobody does, that is also what
        makes stores. Raises CloudError."""
