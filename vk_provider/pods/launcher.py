"""From an admitted pod to an instance: sizing decides, a batch launches, the next best offering is tried when a zone
is out of capacity. The choice is published on the pod as an event and a condition.

A request is frozen until its outcome is known: a call that failed as a whole, or had no answer in time, may have
launched the instance, so it is repeated unchanged, with its token, even if the pod's labels or the boot secret have
changed meanwhile. Outcomes are the instance, a lack of capacity, a quota, or a refusal of the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from vk_provider import eventreasons
from vk_provider.aiokit.batch import Batcher
from vk_provider.cloud.base import TAG_NODE, Cloud, Instance, LaunchRequest, Offering
from vk_provider.cloud.unavailable import UnavailableOfferings
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError, CloudRequestError, VkError
from vk_provider.eventreasons import EventReason
from vk_provider.pods.agent_report import MAX_CPU_MILLI, MAX_MEMORY_BYTES
from vk_provider.pods.images import NoImages, PodImages
from vk_provider.pods.launch_request import BootData, build_request
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.record import OnEvent, PendingLaunch, PodRecord
from vk_provider.sizing.need import compute_allocatable
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal

log = logging.getLogger(__name__)


LAUNCH_WINDOW_S = 0.0
"""Pods of one read of the watch share a call; a longer window would only delay the first pod."""
LAUNCH_BATCH = 100
_DEFAULT_PREFERENCES = Preferences()


class LaunchRefusedError(VkError):
    """No offering can ever hold this pod, or the cloud refuses the request."""

    def __init__(self, reason: EventReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PodLauncher:
    """`launch` sets record.instance or raises LaunchRefusedError, or a CloudError that may be retried. It returns
    without an instance when the pod is deleted meanwhile. By Node name: `preferences`, with defaults, and
    `shared_host_paths`."""

    def __init__(
        self,
        cloud: Cloud,
        owner: str,
        offerings: Sequence[Offering],
        boot_data: BootData,
        metrics: PodMetrics,
        event: OnEvent,
        preferences: Mapping[str, Preferences] | None = None,
        shared_host_paths: Mapping[str, tuple[str, ...]] | None = None,
        images: PodImages | None = None,
    ) -> None:
        self._owner = owner
        self._boot_data = boot_data
        self._metrics = metrics
        self._event = event
        self._selector = OfferingSelector(offerings)
        self._preferences = preferences or {}
        self._shared_host_paths = shared_host_paths or {}
        self._images = images or NoImages()
        self._by_type = {offering.instance_type: offering for offering in offerings}
        self._unavailable = UnavailableOfferings(time.monotonic)
        self._batch: Batcher[LaunchRequest, Instance] = Batcher(
            cloud.launch,
            window_s=LAUNCH_WINDOW_S,
            max_items=LAUNCH_BATCH,
        )

    def allocatable_of(self, instance: Instance) -> dict[str, str]:
        """Allocatable resources of an instance, also of one that an earlier process launched."""
        offering = self._by_type.get(instance.instance_type)
        preferences = self._preferences_of(instance.tags.get(TAG_NODE, ""))
        return compute_allocatable(offering, preferences) if offering is not None else {}

    def capacity_of(self, instance: Instance) -> tuple[int, int]:
        """(millicores, bytes of memory) of an instance, which limit the counters that its agent may report."""
        offering = self._by_type.get(instance.instance_type)
        return (
            (offering.cpu_milli, offering.memory_bytes) if offering is not None else (MAX_CPU_MILLI, MAX_MEMORY_BYTES)
        )

    def _preferences_of(self, node: str) -> Preferences:
        return self._preferences.get(node) or _DEFAULT_PREFERENCES

    def queue(self, record: PodRecord) -> asyncio.Future[Instance] | None:
        """Put the pod's launch into the next call; None when it cannot be prepared now. Pods of one turn of the loop
        share a call; a task would run a turn later."""
        try:
            if record.launch is None:
                image_store = self._images.choose(record.pod)
                if image_store is None:
                    return None  # `launch` finds out whether the pod may have it
                record.launch = self._prepare(record, image_store)
        except Exception:
            return None  # `launch` prepares again, meets the same and reports it.
        return self._batch.put(record.launch.request)

    async def launch(self, record: PodRecord, queued: asyncio.Future[Instance] | None = None) -> None:
        """queued: the launch that `queue` returned for this record"""
        while queued is not None or (record.exists and not record.deleting):
            if record.launch is None:
                image_store = await self._find_store(record)
                if not record.exists or record.deleting:
                    return
                record.launch = self._prepare(record, image_store)
            pending = record.launch
            offering = pending.request.offering
            try:
                answer, queued = queued or self._batch.put(pending.request), None
                instance = await answer
            except CapacityError as error:
                record.launch = None
                self._metrics.launches.labels("no-capacity").inc()
                self._unavailable.mark(offering)
                self._unavailable.mark_error(error, offering)
                self._event(record, "Normal", eventreasons.NO_CAPACITY, f"{error}; trying the next offering")
                continue
            except CloudRequestError as error:
                record.launch = None
                self._metrics.launches.labels("refused").inc()
                raise LaunchRefusedError(eventreasons.INSTANCE_REFUSED, str(error)) from None
            except CloudError as error:
                if isinstance(error, CloudQuotaError):
                    record.launch = None
                self._metrics.launches.labels("failed").inc()
                raise
            record.launch = None
            if instance.state.is_terminated:
                # The token of an earlier attempt, whose instance was terminated before it was seen.
                self._metrics.launches.labels("gone").inc()
                record.attempt += 1
                continue
            self._metrics.launches.labels("ok").inc()
            record.instance, record.terminated, record.fresh = instance, False, True
            record.selection_message = pending.message
            self._event(record, "Normal", eventreasons.INSTANCE_LAUNCHED, f"{instance.instance_id}: {pending.message}")
            return

    async def _find_store(self, record: PodRecord) -> str:
        chosen = self._images.choose(record.pod)
        return chosen if chosen is not None else await self._images.prove(record.pod)

    def _prepare(self, record: PodRecord, image_store: str) -> PendingLaunch:
        """Decide what to launch. Raises CapacityError or LaunchRefusedError."""
        preferences = self._preferences_of(record.node)
        selection = self._selector.select(record.pod, self._unavailable.keys(), preferences)
        if isinstance(selection, Refusal):
            if selection.retryable:
                raise CapacityError(selection.message)
            raise LaunchRefusedError(eventreasons.NO_FITTING_INSTANCE, selection.message)
        if not record.launched_at:
            record.launched_at = time.monotonic()
            self._metrics.launch_seconds.observe(record.launched_at - record.bound_at)
        request = build_request(
            record,
            self._owner,
            selection.offering,
            selection.disk_bytes,
            self._boot_data,
            self._shared_host_paths.get(record.node, ()),
            image_store,
        )
        return PendingLaunch(request, selection.message)

    async def close(self) -> None:
        await self._batch.close()
