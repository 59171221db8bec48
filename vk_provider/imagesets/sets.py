"""Which sets have a store, which should get one next, and which stores have to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from vk_provider.imagesets.imageset import ImageSet

References = frozenset[str]
Key = tuple[References, str]
"""What a store is for, and the architecture of the instances that may start from it."""

MAX_WANTED = 500
"""Sets that wait for their store; the one that was learned first is dropped."""
MAX_SOURCES = 4
RETRY_FIRST_S, RETRY_MAX_S = 30.0, 3600.0
"""Between tries to prepare a set, doubled each time."""


@dataclass(frozen=True, slots=True)
class Store:
    """A prepared store. Times in seconds of the caller's clock. prepared_at: of two stores of the same references the
    later one has the digests that the registry named last. used_at: by a pod; named_at: when the configuration was last
    known to name it. architecture: of the instances that may start from it, "" for all."""

    handle: str
    images: ImageSet
    size_bytes: int
    prepared_at: float
    used_at: float
    architecture: str = ""
    named_at: float = 0.0

    @property
    def wanted_at(self) -> float:
        """When it was last of use to anybody."""
        return max(self.used_at, self.named_at)

    def is_of(self, images: ImageSet, architecture: str) -> bool:
        """Whether it is the store of that set for that architecture; "": for whichever."""
        return self.images == images and _fits(self, architecture)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A set without a store. sources: instances that have its images, newest first. is_named: the configuration names
    it, so it is wanted without any, too. architecture: of the instances that it is wanted for; "" where one store is
    for all."""

    images: ImageSet
    sources: tuple[str, ...]
    used_at: float
    failures: int = 0
    due_at: float = 0.0
    is_named: bool = False
    architecture: str = ""

    @property
    def key(self) -> Key:
        return self.images.references, self.architecture


@dataclass(frozen=True, slots=True)
class Limits:
    """max_bytes: of all stores together; max_age_s: since a store was last used."""

    max_bytes: int
    max_age_s: float


class ImageSets:
    """Least recently used goes first, in everything."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._wanted: OrderedDict[Key, Wanted] = OrderedDict()
        self._stores: dict[str, Store] = {}
        self._named: dict[Key, tuple[ImageSet, int]] = {}
        """What named sets take that have had a store: bytes."""

    @property
    def stores(self) -> list[Store]:
        return list(self._stores.values())

    @property
    def waiting(self) -> int:
        """Sets without a store."""
        return len(self._wanted)

    def add_store(self, store: Store) -> None:
        """It was prepared, or is there from an earlier process."""
        known = self._stores.get(store.handle)
        self._stores[store.handle] = (
            store if known is None else replace(store, used_at=known.used_at, named_at=known.named_at)
        )
        for key, wanted in list(self._wanted.items()):
            if store.is_of(wanted.images, wanted.architecture):
                del self._wanted[key]
                if wanted.is_named:
                    self._named[key] = store.images, store.size_bytes

    def remove_store(self, handle: str) -> None:
        self._stores.pop(handle, None)

    def note_use(self, handle: str, now: float) -> None:
        """An instance is launched from it, or from that of another architecture: which one it gets is chosen later."""
        used = self._stores.get(handle)
        for store in list(self._stores.values()):
            if used is not None and store.images == used.images:
                self._stores[store.handle] = replace(store, used_at=max(store.used_at, now))

    def covers(self, told: Mapping[str, Collection[str]], architecture: str = "") -> bool:
        """Whether the set of these references is known with the digests told: it has a store, or waits for one and has
        a source. told: reference to digests; of several digests nobody knows here which one counts."""
        references = frozenset(told)
        stores = (store for store in self._stores.values() if _fits(store, architecture))
        known = [store.images for store in stores if store.images.references == references]
        if (wanted := self._wanted.get((references, architecture))) is not None:
            known.append(wanted.images)
        return any(all({image.digest} == set(told[image.reference]) for image in images.images) for images in known)

    def learn(self, images: ImageSet, source: str, now: float, architecture: str = "") -> None:
        """A pod has these images on the instance `source`, of that architecture, and the registry has confirmed each
        name's digest."""
        if not images.images or any(store.is_of(images, architecture) for store in self._stores.values()):
            return
        known = self._take_wanted(images, now, architecture)
        sources = (source, *(each for each in known.sources if each != source))[:MAX_SOURCES]
        self._put_wanted(replace(known, sources=sources, used_at=now))

    def name(self, images: ImageSet, now: float, architecture: str = "") -> bool:
        """The configuration names these images, and the registry has confirmed each name's digest: their store for that
        architecture is kept, or is wanted. False: it was given up for others, and there is no room for it still. To
        make it again would push out another one, and so on for ever."""
        stores = [store for store in self._stores.values() if store.is_of(images, architecture)]
        for store in stores:
            self._stores[store.handle] = replace(store, named_at=max(store.named_at, now))
            self._named[images.references, architecture] = images, store.size_bytes
        if stores:
            return True
        known, size_bytes = self._named.get((images.references, architecture), (images, 0))
        held_bytes = sum(store.size_bytes for store in self._stores.values())
        if known == images and size_bytes and held_bytes + size_bytes > self.limits.max_bytes:
            return False
        self._put_wanted(replace(self._take_wanted(images, now, architecture), used_at=now, is_named=True))
        return True

    def _take_wanted(self, images: ImageSet, now: float, architecture: str) -> Wanted:
        known = self._wanted.pop((images.references, architecture), None)
        if known is not None and known.images == images:
            return known
        return Wanted(images, (), now, architecture=architecture)

    def _put_wanted(self, wanted: Wanted) -> None:
        self._wanted[wanted.key] = wanted
        if len(self._wanted) > MAX_WANTED:
            self._wanted.popitem(last=False)

    def forget_source(self, source: str) -> list[ImageSet]:
        """The instance is gone. Returns the sets that are left without a source, and not wanted any more: the next pod
        that pulls one brings it again. One that is named is wanted all the same."""
        lost = []
        for key, wanted in list(self._wanted.items()):
            if source in wanted.sources:
                left = tuple(each for each in wanted.sources if each != source)
                if left or wanted.is_named:
                    self._wanted[key] = replace(wanted, sources=left)
                else:
                    del self._wanted[key]
                    lost.append(wanted.images)
        return lost

    def next_wanted(self, now: float, queued: Collection[References] = ()) -> Wanted | None:
        """What to prepare now: first what pods wait for (queued: their references), then what was used last."""
        due = [wanted for wanted in self._wanted.values() if wanted.due_at <= now]
        queue = set(queued)
        return max(due, key=lambda wanted: (wanted.images.references in queue, wanted.used_at), default=None)

    def next_due_at(self) -> float | None:
        """When the set that was tried in vain may be tried again soonest."""
        return min((wanted.due_at for wanted in self._wanted.values()), default=None)

    def note_failure(self, images: ImageSet, now: float, architecture: str = "") -> None:
        """The set could not be prepared: it is tried again later."""
        wanted = self._wanted.get((images.references, architecture))
        if wanted is not None and wanted.images == images:
            delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2**wanted.failures)
            self._wanted[wanted.key] = replace(wanted, failures=wanted.failures + 1, due_at=now + delay_s)

    def candidates(self, references: References) -> list[Store]:
        """Stores that hold images of these references and no other: those with most of them first, then the newest."""
        fitting = [store for store in self._stores.values() if store.images.references <= references]
        return sorted(fitting, key=lambda store: (-len(store.images.images), -store.prepared_at))

    def surplus(self, now: float, queued: Collection[References] = ()) -> list[str]:
        """Handles of the stores that have to go: replaced by a newer one of the same references and architecture, not
        used for too long, or beyond the bytes. Those that pods wait for are the last to go."""
        newest: dict[Key, Store] = {}
        for store in sorted(self._stores.values(), key=lambda store: store.prepared_at):
            newest[store.images.references, store.architecture] = store
        queue, kept_bytes, gone = set(queued), 0, []
        by_use = sorted(
            self._stores.values(),
            key=lambda store: (store.images.references in queue, store.wanted_at),
            reverse=True,
        )
        for store in by_use:
            expired = now - store.wanted_at > self.limits.max_age_s and store.images.references not in queue
            too_much = kept_bytes + store.size_bytes > self.limits.max_bytes
            if newest[store.images.references, store.architecture] is not store or expired or too_much:
                gone.append(store.handle)
            else:
                kept_bytes += store.size_bytes
        return gone


def _fits(store: Store, architecture: str) -> bool:
    return not store.architecture or not architecture or store.architecture == architecture
