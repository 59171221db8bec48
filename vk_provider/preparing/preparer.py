"""ImagePreparer: learns image sets from agents' words, and chooses a store for each launch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from vk_provider import eventreasons
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.imagesets.need import ImageNeed, find_need
from vk_provider.imagesets.sets import ImageSets, Limits, Store
from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import parse_image
from vk_provider.pods.record import OnEvent, PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.credentials import PullSecrets
from vk_provider.preparing.firsttime import MIN_BYTES, NOBODY_WAITS, FirstTime, FirstTimeRules
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.named import NamedImages
from vk_provider.preparing.poolstores import PublicStores
from vk_provider.preparing.upkeep import PodSide, StoreUpkeep
from vk_provider.wire.images import ImagesMessage, ImageUse

log = logging.getLogger(__name__)

PROOF_LIMIT_S = 2.0
"""A pod whose proof takes longer starts without a store: its agent pulls."""

MAX_TOLD_BYTES, MAX_TOLD_S = 1 << 40, 24 * 3600.0
"""Of one image, as metrics take it: whatever an agent says, sums over all pods stay of use."""


class SecretReader(Protocol):
    """Reads a pod's imagePullSecrets, mostly from memory; one that cannot be read now is None."""

    async def read_pull_secrets(self, pod: Json) -> PullSecrets: ...


class ImagePreparer:
    """See pods.images.PodImages for its part in launches. `run` prepares stores until cancelled.

    records:    the pods of the provider
    first_time: None: no pod waits for another one's pull
    clock:      Unix seconds: stores outlive the process
    """

    tells = True

    def __init__(
        self,
        stores: ImageStores,
        limits: Limits,
        authority: PullAuthority,
        secret_reader: SecretReader,
        metrics: ImageMetrics,
        event: OnEvent,
        records: Callable[[], Iterable[PodRecord]],
        first_time: FirstTimeRules | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authority, self._secrets = authority, secret_reader
        self._metrics, self._clock = metrics, clock
        self._pods = PodSide(records, event)
        self._sets = ImageSets(limits)
        self._heard: set[str] = set()
        self._tasks = BackgroundTasks()
        rules = first_time or NOBODY_WAITS
        self._first = FirstTime(rules.pioneers, rules.limit_s, lambda references: self._is_ready(references))
        self._size_of = rules.size_of
        self.public = PublicStores(self._sets, authority)
        self._upkeep = StoreUpkeep(stores, self._sets, self._first, self._pods, metrics, clock)
        self._upkeep.on_stores = self.public.changed
        self.named = NamedImages(self._sets, authority, self._upkeep.wake, clock)
        metrics.follow(lambda: self._sets.stores, lambda: self._sets.waiting)

    # --- what agents tell ----------------------------------------------------------------------------------------

    def receive(self, record: PodRecord, message: ImagesMessage) -> None:
        """The images that the pod has so far. It is looked into once, when all of them are there."""
        if record.instance is None:
            return
        told = by_reference(message)
        need = find_need(record.pod)
        if not need.references <= told.keys() or record.uid in self._heard:
            return
        self._heard.add(record.uid)
        for use in _each_once(message, need):
            self._metrics.images.labels("pulled" if use["pulled"] else "present").inc()
            if use["pulled"]:
                self._metrics.pull_seconds.observe(min(use["seconds"], MAX_TOLD_S))
                self._metrics.pulled_bytes.inc(min(use["sizeBytes"], MAX_TOLD_BYTES))
            else:
                self._metrics.present_bytes.inc(min(use["sizeBytes"], MAX_TOLD_BYTES))
        if not any(use["pulled"] for use in message["images"]):
            self._first.settle(need.references)
        else:
            self._tasks.spawn(self._learn(record, need, told), f"images of {record.uid}")

    async def _learn(self, record: PodRecord, need: ImageNeed, told: dict[str, frozenset[str]]) -> None:
        """Confirm each name at the registry, as the pod could: a record says who may have a digest, but not what a tag
        stands for. An image without a digest is one that every instance has."""
        instance = record.instance
        architecture = instance.architecture if instance is not None else ""
        pulled = {reference: told[reference] for reference in need.references if told[reference]}
        if self._sets.covers(pulled, architecture):
            return
        pull_secrets = await self._secrets.read_pull_secrets(record.pod)
        images = []
        for reference in sorted(need.references):
            if not told[reference]:
                continue
            image = await self._authority.ask(reference, pull_secrets)
            if not isinstance(image, PinnedImage) or image.digest not in told[reference]:
                why = "it names another digest" if isinstance(image, PinnedImage) else str(image)
                log.warning(
                    "pod %s: its images are not prepared: the registry does not confirm %s: %s",
                    *(record.key, reference, why),
                )
                self._metrics.prepared.labels("unconfirmed").inc()
                self._first.settle(need.references)
                return
            images.append(image)
        if instance is None or not record.has_instance or record.forgotten:
            self._note_lost(need.references)
            return
        self._sets.learn(ImageSet.of(images), instance.instance_id, self._clock(), architecture)
        self._upkeep.wake()
        if any(not told[reference] for reference in need.references):
            self._first.settle(need.references)

    def _note_lost(self, references: frozenset[str]) -> None:
        names = ", ".join(sorted(references))
        log.info("images not prepared: %s: the pod that had pulled them has ended; the next one may bring them", names)
        self._metrics.prepared.labels("source-lost").inc()

    def forget(self, record: PodRecord) -> None:
        """The pod, and soon its instance, is gone."""
        self._heard.discard(record.uid)
        self._first.leave(record.uid)
        if record.instance is not None:
            for images in self._sets.forget_source(record.instance.instance_id):
                self._note_lost(images.references)

    # --- launches ------------------------------------------------------------------------------------------------

    def choose(self, pod: Json) -> str | None:
        """See PodImages.choose."""
        need = find_need(pod)
        if not need.never_pulled and self._first.must_wait(need.references, pod["metadata"]["uid"]):
            return None
        candidates = self._sets.candidates(need.references)
        if not candidates:
            self._metrics.launches.labels("none").inc()
            return ""
        if pod["spec"].get("imagePullSecrets"):
            return None
        best = candidates[0]
        return self._use(best) if all(self._authority.allows(image, {}) for image in best.images.images) else None

    async def prove(self, pod: Json) -> str:
        """See PodImages.prove."""
        need = find_need(pod)
        await self._wait_for_store(pod, need)
        candidates = self._sets.candidates(need.references)
        try:
            async with asyncio.timeout(PROOF_LIMIT_S):
                pull_secrets = await self._secrets.read_pull_secrets(pod)
                for store in candidates:
                    if await self._may_have(store, need, pull_secrets):
                        return self._use(store)
        except TimeoutError:
            pass
        self._metrics.launches.labels("denied" if candidates else "none").inc()
        return ""

    async def _wait_for_store(self, pod: Json, need: ImageNeed) -> None:
        """See firsttime. A pod with small images, or with such as the registry does not show, is not kept."""
        uid = pod["metadata"]["uid"]
        if need.never_pulled or not self._first.must_wait(need.references, uid):
            return
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROOF_LIMIT_S):
                size = await self._size_of(pod, await self._secrets.read_pull_secrets(pod))
        if size < MIN_BYTES:
            return
        record = next((each for each in self._pods.records() if each.uid == uid), None)
        if record is not None:
            text = f"other pods are pulling the same images ({size} bytes); the instance starts when they are prepared"
            self._pods.event(record, "Normal", eventreasons.WAITING_FOR_IMAGES, text)
        started = time.monotonic()
        await self._first.wait(need.references, uid, size)
        self._metrics.waited_seconds.observe(time.monotonic() - started)

    def _is_ready(self, references: frozenset[str]) -> bool:
        return any(store.images.references == references for store in self._sets.candidates(references))

    def _use(self, store: Store) -> str:
        self._sets.note_use(store.handle, self._clock())
        self._metrics.launches.labels("used").inc()
        return store.handle

    async def _may_have(self, store: Store, need: ImageNeed, pull_secrets: PullSecrets) -> bool:
        unknown = [image for image in store.images.images if not self._authority.allows(image, pull_secrets)]
        if any(image.reference in need.never_pulled for image in unknown):
            return False
        found = await asyncio.gather(*(self._authority.prove(image.reference, pull_secrets) for image in unknown))
        return found == unknown

    # --- stores --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Root task: see StoreUpkeep.run."""
        await self._upkeep.find_stores()
        self._tasks.spawn(self.public.prove(), "images that are for anybody")
        await self._upkeep.run()

    async def close(self) -> None:
        """End what is under way; the stores stay."""
        await self._tasks.close()


def _each_once(message: ImagesMessage, need: ImageNeed) -> list[ImageUse]:
    """What is told of the pod's own images."""
    found: dict[str, ImageUse] = {}
    for use in message["images"]:
        try:
            reference = parse_image(use["image"]).canonical
        except InvalidImageName:
            continue
        if reference in need.references:
            found.setdefault(reference, use)
    return list(found.values())


def by_reference(message: ImagesMessage) -> dict[str, frozenset[str]]:
    """Canonical reference to digests; names that are none are left out."""
    found = {}
    for use in message["images"]:
        try:
            found[parse_image(use["image"]).canonical] = frozenset(use["digests"])
        except InvalidImageName:
            continue
    return found
