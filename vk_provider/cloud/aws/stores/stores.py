"""The prepared stores of this cloud: see cloud.imagestores.ImageStores."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vk_provider.cloud.aws.description import Descriptions
from vk_provider.cloud.aws.diskprices import price_snapshot
from vk_provider.cloud.aws.images import Images
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.calls import Snapshot, StoreCalls
from vk_provider.cloud.aws.stores.preparation import BOOT_S, Plan, Preparation, VolumeTooSmallError
from vk_provider.cloud.aws.stores.record import StoreRecord, build_record_tags
from vk_provider.cloud.aws.stores.specification import rank_builders
from vk_provider.cloud.aws.stores.volume import StoreVolume, made_gib
from vk_provider.cloud.aws.subnets import Subnets
from vk_provider.cloud.aws.volumetypes import speed_beyond
from vk_provider.cloud.base import Offering
from vk_provider.cloud.imagestores import (
    ImageStoreError,
    KeptStore,
    NoCosts,
    PreparedStore,
    SourceLostError,
    StoreCosts,
    StoreRefusedError,
)
from vk_provider.errors import CloudError, CloudRequestError
from vk_provider.imagesets.imageset import ImageSet
from vk_provider.wire.imagebuild import RegistryHost

log = logging.getLogger(__name__)

SWEEP_S = 300.0
REFUSED_S = 6 * 3600.0
"""A set that a registry does not show to a builder is not tried again for so long: each try is an instance."""
REFUSED_SETS = 1000
VOLUME_GROWTH = 4
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the cloud: what builders are launched with, and where the instances that have pulled are looked up.

    offerings: those of now. registries: as in wire.bootdata
    """

    images: Images
    subnets: Subnets
    descriptions: Descriptions
    offerings: Callable[[], Awaitable[Sequence[Offering]]]
    registries: Mapping[str, RegistryHost]


class AwsImageStores:
    """Handles are IDs of snapshots. `run` sweeps."""

    shares_machine = False

    def __init__(
        self,
        calls: StoreCalls,
        settings: AwsCloudSettings,
        owner: str,
        surroundings: Surroundings,
    ) -> None:
        self._calls, self._settings, self._owner = calls, settings, owner
        self._surroundings = surroundings
        self._ready: dict[str, Snapshot] = {}
        self._held: Counter[str] = Counter()
        self._forgotten: set[str] = set()
        self._refused: dict[tuple[str, str], float] = {}
        """By key and architecture."""
        self._ended: set[str] = set()
        self._under_way = ""
        self._preparing = asyncio.Lock()
        self._kept: dict[str, Snapshot] = {}
        """What is paid for, by the newest look and what was done since."""
        self._costs: StoreCosts = NoCosts()

    def follow_costs(self, costs: StoreCosts) -> None:
        """See ImageStores.follow_costs."""
        self._costs = costs

    # --- launches ------------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self, handle: str) -> Iterator[None]:
        """No snapshot is deleted while a launch may name it."""
        held = [handle, *(each.snapshot_id for each, _ in self._find_alike(handle) if each.snapshot_id != handle)]
        self._held.update(held)
        try:
            yield
        finally:
            self._held.subtract(held)
            for each in held:
                if not self._held[each]:
                    del self._held[each]

    def find(self, handle: str, machine_image: str, architecture: str) -> StoreVolume | None:
        """For a launch from that machine image; None for a store that is not there any more, or is of another one, with
        none of the same images for this one."""
        for snapshot, record in self._find_alike(handle):
            if (record.machine_image, record.architecture) == (machine_image, architecture):
                stores = self._settings.image_stores
                volume_gib = made_gib(self._settings, snapshot.volume_gib)
                speed = speed_beyond(stores.iops, stores.throughput)
                return StoreVolume(snapshot.snapshot_id, record.nonce, volume_gib, speed)
        return None

    def _find_alike(self, handle: str) -> list[tuple[Snapshot, StoreRecord]]:
        """That store first, and those of the same images for other architectures."""
        named = self._ready.get(handle)
        if named is None or named.record is None:
            return []
        images = named.record.images
        found = (named, *(each for each in self._ready.values() if each is not named))
        return [(each, each.record) for each in found if each.record is not None and each.record.images == images]

    def lose(self, handle: str) -> None:
        """EC2 does not know the snapshot: somebody has deleted it."""
        if self._ready.pop(handle, None) is not None:
            log.warning("the prepared store %s is gone: launches go on without it", handle)

    # --- ImageStores ---------------------------------------------------------------------------------------------

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        """See ImageStores.prepare. The images are pulled from their registries, as nobody may."""
        async with self._preparing:
            architecture = architecture or await self._find_architecture(sources)
            if architecture not in self._surroundings.images.architectures:
                raise StoreRefusedError(f"no machine image is configured for {architecture}")
            if self._refused.get((images.key, architecture), 0.0) > time.monotonic():
                raise StoreRefusedError(
                    "the registry shows the images to nobody without their pods' credentials, or has none for "
                    f"{architecture}"
                )
            image = await self._surroundings.images.find(architecture)
            record = StoreRecord(images, secrets.token_hex(8), image.image_id, architecture)
            if build_record_tags(self._owner, record) is None:
                raise StoreRefusedError("the names of the images do not fit into a snapshot's tags")
            offerings = await self._surroundings.offerings()
            places = rank_builders(offerings, architecture, self._surroundings.subnets.by_zone)
            most = max(1, -(-max_bytes // _GIB))
            volume_gib = made_gib(self._settings, min(self._settings.image_stores.volume_gib, most))
            self._under_way = images.key
            try:
                while True:
                    plan = Plan(record, image, places, dict(self._surroundings.registries), volume_gib, max_bytes)
                    try:
                        return _describe(await self._make(plan))
                    except VolumeTooSmallError:
                        if volume_gib >= most:
                            raise
                        volume_gib = min(most, volume_gib * VOLUME_GROWTH)
                        record = StoreRecord(images, secrets.token_hex(8), image.image_id, architecture)
            finally:
                self._under_way = ""

    async def _find_architecture(self, sources: Sequence[str]) -> str:
        """That of the instances that have pulled: others pull other manifests of the same index. Without any the first
        of the settings."""
        known = self._surroundings.images.architectures
        if len(known) == 1 or not sources:
            return known[0]
        for instance in await self._surroundings.descriptions.describe(sources):
            if instance.architecture in known:
                return instance.architecture
        raise SourceLostError("the instances that have pulled the images are gone: their architecture is not known")

    async def _make(self, plan: Plan) -> Snapshot:
        preparation = Preparation(self._calls, self._settings, self._owner, plan, self._ended, self._costs)
        try:
            snapshot = await preparation.run()
        except CloudError as error:
            if isinstance(error, StoreRefusedError):
                self._refused[plan.record.images.key, plan.record.architecture] = time.monotonic() + REFUSED_S
                if len(self._refused) > REFUSED_SETS:
                    del self._refused[next(iter(self._refused))]
            await self._end(preparation.builders)
            raise
        if snapshot.snapshot_id not in self._forgotten:
            self._ready[snapshot.snapshot_id] = snapshot
        self._kept[snapshot.snapshot_id] = snapshot
        self._tell_kept()
        await self._end(preparation.builders)
        return snapshot

    async def _end(self, builders: set[str]) -> None:
        """What cannot be terminated now ends by itself, or with a sweep."""
        self._ended |= builders
        try:
            await self._calls.terminate(sorted(builders))
        except CloudError as error:
            log.warning("builders of prepared images are not terminated yet: %s", error)
            return
        for builder in builders:
            self._costs.note_ended(builder)

    async def list_prepared(self) -> list[PreparedStore]:
        """See ImageStores.list_prepared."""
        await self._look()
        return [_describe(each) for each in self._ready.values()]

    async def forget(self, handle: str) -> None:
        """See ImageStores.forget. Volumes of instances do not need the snapshot any more."""
        self._ready.pop(handle, None)
        self._forgotten.add(handle)
        if not self._held[handle]:
            await self._delete(handle)
            self._forgotten.discard(handle)

    async def _delete(self, handle: str) -> None:
        await self._calls.delete_snapshot(handle)
        self._kept.pop(handle, None)
        self._tell_kept()

    def _tell_kept(self) -> None:
        self._costs.note_kept(
            [
                KeptStore(each.snapshot_id, each.key, each.started_at, price_snapshot(self._settings, each.paid_bytes))
                for each in self._kept.values()
            ]
        )

    # --- what is there -------------------------------------------------------------------------------------------

    async def _look(self) -> list[Snapshot]:
        """Take over which stores there are; returns the snapshots that are of no use. What comes or goes meanwhile is
        not in the listing: it stays as it is known."""
        before, kept = dict(self._ready), set(self._kept)
        snapshots = await self._calls.list_snapshots()
        listed = {each.snapshot_id: each for each in snapshots if not each.is_lost}
        deleted = kept - self._kept.keys()  # meanwhile
        new = {handle: each for handle, each in self._kept.items() if handle not in kept}
        self._kept = {handle: each for handle, each in listed.items() if handle not in deleted} | new
        self._tell_kept()
        current = {
            name: (await self._surroundings.images.find(name)).image_id
            for name in self._surroundings.images.architectures
        }
        ready: dict[str, Snapshot] = {}
        useless, seen = [], set()
        # Of two alike the one that is in use stays, else the older one.
        ranked = sorted(snapshots, key=lambda each: (each.snapshot_id not in self._ready, each.started_at))
        for snapshot in ranked:
            record = snapshot.record
            is_unwanted = snapshot.is_lost or snapshot.snapshot_id in self._forgotten
            if record is None or is_unwanted or current.get(record.architecture) != record.machine_image:
                useless.append(snapshot)
            elif snapshot.is_completed and (same := (record.images, record.architecture)) not in seen:
                seen.add(same)
                ready[snapshot.snapshot_id] = snapshot
            elif snapshot.is_completed:
                useless.append(snapshot)  # made twice, around a crash
        gone = before.keys() - self._ready.keys()
        come = {handle: each for handle, each in self._ready.items() if handle not in before}
        self._ready = {handle: each for handle, each in ready.items() if handle not in gone} | come
        return [each for each in useless if each.snapshot_id not in come]

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        """See ImageStores.sweep. Delete the snapshots and terminate the builders that nobody needs. One that EC2
        refuses to delete keeps none of the others. Raises CloudError; the next one goes on."""
        for snapshot in await self._look():
            if not self._held[snapshot.snapshot_id] and snapshot.key != self._under_way:
                try:
                    await self._delete(snapshot.snapshot_id)
                except CloudRequestError as error:
                    log.warning("the snapshot %s of images cannot be deleted: %s", snapshot.snapshot_id, error)
                    continue
                self._forgotten.discard(snapshot.snapshot_id)
                log.info("the snapshot %s of images is deleted: it is of no use", snapshot.snapshot_id)
        done = {(each.key, each.record.architecture) for each in self._ready.values() if each.record is not None}
        limit_s = self._settings.image_stores.builder_limit_s + BOOT_S
        for builder in await self._calls.list_builders():
            is_old = time.time() - builder.launched_at > limit_s
            record = builder.record
            is_done = record is None or (builder.key, record.architecture) in done
            is_done = is_done or nobody_prepares or builder.instance_id in self._ended
            if not builder.state.is_terminating and builder.key != self._under_way and (is_old or is_done):
                await self._calls.terminate([builder.instance_id])
                self._costs.note_ended(builder.instance_id)
                log.info("the builder %s of images is terminated: nobody waits for it", builder.instance_id)

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except CloudError as error:
                log.warning("prepared images are not swept: %s", error)


def _describe(snapshot: Snapshot) -> PreparedStore:
    if snapshot.record is None:
        raise ImageStoreError(f"the tags of {snapshot.snapshot_id} have changed")
    record = snapshot.record
    return PreparedStore(
        snapshot.snapshot_id, record.images, record.size_bytes, snapshot.started_at, record.architecture
    )
