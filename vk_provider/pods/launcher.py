"""From an admitted pod to an instance: sizing decides, a batch launches, the next best offering is tried when a zone
is out of capacity. The choice is told on the pod: an event and a condition."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from vk_provider.aiokit.batch import Batcher
from vk_provider.cloud.base import TAG_NODE, Cloud, Instance, LaunchRequest, Offering
from vk_provider.cloud.tags import build_tags
from vk_provider.cloud.unavailable import UnavailableOfferings
from vk_provider.errors import CapacityError, CloudError, CloudRequestError, VkError
from vk_provider.pods.agent_word import MAX_CPU_MILLI, MAX_MEMORY_BYTES
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.record import PodRecord
from vk_provider.sizing.need import compute_allocatable
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection

log = logging.getLogger(__name__)


LAUNCH_WINDOW_S = 0.0
"""What one read of the watch delivers shares a call; waiting longer would only delay the first pod."""
LAUNCH_BATCH = 100
_DEFAULT_PREFERENCES = Preferences()


class LaunchRefusedError(VkError):
    """No offering can ever hold this pod, or the cloud refuses the request as such."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PodLauncher:
    """`launch` sets record.instance or raises LaunchRefusedError, or a CloudError that is worth a retry. It gives up
    quietly when the pod is deleted meanwhile. `preferences`: by the Node's name; others have the defaults."""

    def __init__(
        self,
        cloud: Cloud,
        owner: str,
        offerings: Sequence[Offering],
        boot_data: Callable[[], str],
        metrics: PodMetrics,
        event: Callable[[PodRecord, str, str, str], None],
        preferences: Mapping[str, Preferences] | None = None,
    ) -> None:
        self._owner = owner
        self._boot_data = boot_data
        self._metrics = metrics
        self._event = event
        self._selector = OfferingSelector(offerings)
        self._preferences = preferences or {}
        self._by_type = {offering.instance_type: offering for offering in offerings}
        self._unavailable = UnavailableOfferings(time.monotonic)
        self._batch: Batcher[LaunchRequest, Instance] = Batcher(
            cloud.launch,
            window_s=LAUNCH_WINDOW_S,
            max_items=LAUNCH_BATCH,
        )

    def allocatable_of(self, instance: Instance) -> dict[str, str]:
        """What the pod may use of its instance, also of one that an earlier process launched."""
        offering = self._by_type.get(instance.instance_type)
        preferences = self._preferences_of(instance.tags.get(TAG_NODE, ""))
        return compute_allocatable(offering, preferences) if offering is not None else {}

    def capacity_of(self, instance: Instance) -> tuple[int, int]:
        """(millicores, bytes of memory) of an instance: no counter of its agent can be beyond them."""
        offering = self._by_type.get(instance.instance_type)
        return (
            (offering.cpu_milli, offering.memory_bytes) if offering is not None else (MAX_CPU_MILLI, MAX_MEMORY_BYTES)
        )

    def _preferences_of(self, node: str) -> Preferences:
        return self._preferences.get(node) or _DEFAULT_PREFERENCES

    async def launch(self, record: PodRecord) -> None:
        preferences = self._preferences_of(record.node)
        while record.exists and not record.deleting:
            selection = self._selector.select(record.pod, self._unavailable.keys(), preferences)
            if isinstance(selection, Refusal):
                if selection.retryable:
                    raise CapacityError(selection.message)
                raise LaunchRefusedError(selection.reason, selection.message)
            offering = selection.offering
            if not record.launched_at:
                record.launched_at = time.monotonic()
                self._metrics.launch_seconds.observe(record.launched_at - record.bound_at)
            try:
                instance = await self._batch.submit(self._request(record, selection))
            except CapacityError as error:
                self._metrics.launches.inc("no-capacity")
                self._unavailable.mark(offering)
                self._unavailable.mark_error(error, offering)
                self._event(record, "Normal", "NoCapacity", f"{error}; trying the next offering")
                continue
            except CloudRequestError as error:
                self._metrics.launches.inc("refused")
                raise LaunchRefusedError("InstanceRefused", str(error)) from None
            except CloudError:
                self._metrics.launches.inc("failed")
                raise
            if instance.state.is_gone:
                # The token of an earlier attempt: that instance came and went before anybody saw it.
                self._metrics.launches.inc("gone")
                record.attempt += 1
                continue
            self._metrics.launches.inc("ok")
            record.instance, record.terminated, record.fresh = instance, False, True
            record.selection_message = selection.message
            self._event(record, "Normal", "InstanceLaunched", f"{instance.instance_id}: {selection.message}")
            return

    def _request(self, record: PodRecord, selection: Selection) -> LaunchRequest:
        tags = build_tags(
            owner=self._owner,
            node=record.node,
            pod_uid=record.uid,
            pod_namespace=record.namespace,
            pod_name=record.name,
            attempt=record.attempt,
            extra=record.pod["metadata"].get("labels") or {},
        )
        return LaunchRequest(
            client_token=build_client_token(record.uid, record.attempt, selection.offering),
            offering=selection.offering,
            tags=tags,
            user_data=self._boot_data(),
            disk_bytes=selection.disk_bytes,
        )

    async def close(self) -> None:
        await self._batch.close()


def build_client_token(uid: str, attempt: int, offering: Offering) -> str:
    """At most 64 characters. Another offering is another request, which the same token would refuse."""
    text = f"{offering.instance_type}/{offering.zone}/{offering.capacity_type}"
    return f"{uid}-{attempt}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
