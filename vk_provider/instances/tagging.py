"""Says by tags which pod an instance serves: for people, for the bill, and as a short cut for adoption. Nothing waits
for it. Paced, at the lowest priority: launches and terminations of the same account come first. Only what has become of
an instance of a pool is said at once, and nothing is sent to it before that was accepted: with the tags of its launch
its agent would be believed, after a restart, that it is empty.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import TAG_POD_UID, Cloud
from vk_provider.cloud.tags import build_pod_tags, build_taken_tags
from vk_provider.errors import CloudError, CloudThrottledError
from vk_provider.instances.demand import Demand
from vk_provider.instances.groups import find_shared_labels
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.pace import Pace
from vk_provider.jsontypes import Json

log = logging.getLogger(__name__)

AT_ONCE, MARKS_AT_ONCE = 2, 16
"""Pods wait for marks."""
DELAY_S = 3.0
"""Pods of a burst come first; a pod that is gone by then needs no tags."""
QUIET_S = 1.0
TRIES = 5
MARK_FIRST_S, MARK_MAX_S = 0.2, 15.0
"""Between two tries to say that an instance of a pool is taken."""


class Tagging:
    """is_busy: whether launches or terminations wait; is_starting: whether a pod's new instance boots. The latter looks
    at all of them, so it is asked once in a while. on_marked(instance, problem): the tags of one that was taken from a
    pool were accepted, or were not, which is told once; they are sent again until they are."""

    def __init__(self, cloud: Cloud, is_busy: Callable[[], bool], is_starting: Callable[[], bool]) -> None:
        self._cloud = cloud
        self._is_busy, self._is_starting = is_busy, is_starting
        self._quiet_until = 0.0
        self._pace, self._mark_pace = Pace(AT_ONCE), Pace(MARKS_AT_ONCE)
        self._waiting: dict[str, tuple[OwnedInstance, Mapping[str, str], int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._urgent = BackgroundTasks()
        self.on_marked: Callable[[OwnedInstance, CloudError | None], None] = lambda owned, problem: None

    def put(self, owned: OwnedInstance, demand: Demand) -> None:
        """The instance serves the pod of `demand`."""
        if owned.described.tags.get(TAG_POD_UID) == demand.uid:
            owned.unmarked = False
            return  # in the launch call itself
        tags = build_pod_tags(
            pod_uid=demand.uid, pod_namespace=demand.namespace, pod_name=demand.name, attempt=demand.attempt
        )
        if owned.is_for_anybody:
            owned.unmarked = True
            self._mark_soon(owned, demand.pod, tags, demand.steady_cpu_milli)
            return
        self._waiting[owned.instance_id] = owned, tags, 0
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="tags of instances")

    def note_taken(self, owned: OwnedInstance, pod: Json, steady_cpu_milli: int, *, has_run: bool) -> None:
        """One of a pool has the pod since an earlier process, and its tags do not say so. steady_cpu_milli: see Demand;
        has_run: the pod is on it already, and is not held back."""
        found = pod["metadata"]
        tags = build_pod_tags(
            pod_uid=found["uid"], pod_namespace=found["namespace"], pod_name=found["name"], attempt=owned.attempt
        )
        owned.unmarked = not has_run
        self._mark_soon(owned, pod, tags, steady_cpu_milli)

    def _mark_soon(self, owned: OwnedInstance, pod: Json, tags: Mapping[str, str], steady_cpu_milli: int) -> None:
        taken = build_taken_tags(pod["metadata"]["namespace"], find_shared_labels(pod), steady_cpu_milli)
        self._waiting.pop(owned.instance_id, None)
        self._urgent.spawn(self._mark(owned, {**tags, **taken}), f"tags of {owned.instance_id}")

    async def _mark(self, owned: OwnedInstance, tags: Mapping[str, str]) -> None:
        """Until they are accepted, or the instance is not that pod's any more."""
        backoff, is_told = Backoff(MARK_FIRST_S, MARK_MAX_S), False
        while owned.is_live and owned.pod_uid == tags[TAG_POD_UID]:
            try:
                async with self._mark_pace.turn():
                    await self._cloud.create_tags([owned.instance_id], tags)
            except CloudError as error:
                if not is_told and not isinstance(error, CloudThrottledError):
                    log.warning("instance %s is not marked as taken yet: %s", owned.instance_id, error)
                    self.on_marked(owned, error)
                    is_told = True
                await asyncio.sleep(backoff.next_delay_s())
                continue
            if owned.pod_uid == tags[TAG_POD_UID]:
                owned.unmarked = False
                self.on_marked(owned, None)
            return

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(DELAY_S)
                for instance_id in list(self._waiting):
                    while self._must_wait():  # noqa: ASYNC110 - nothing announces it, and nobody waits
                        await asyncio.sleep(DELAY_S)
                    await self._tag(instance_id)
        finally:
            self._task = None

    def _must_wait(self) -> bool:
        """Calls for pods that start come first: EC2 counts all of them together."""
        if self._is_busy():
            return True
        now = time.monotonic()
        if now >= self._quiet_until and not self._is_starting():
            self._quiet_until = now + QUIET_S
        return now >= self._quiet_until

    async def _tag(self, instance_id: str) -> None:
        if instance_id not in self._waiting:
            return
        owned, tags, tries = self._waiting.pop(instance_id)
        if not owned.is_live or owned.pod_uid != tags[TAG_POD_UID]:
            return
        try:
            async with self._pace.turn():
                await self._cloud.create_tags([instance_id], tags)
        except CloudThrottledError:
            self._waiting.setdefault(instance_id, (owned, tags, tries))
        except CloudError as error:
            if not error.retryable or tries + 1 >= TRIES:
                log.warning("instance %s has no tags of its pod: %s", instance_id, error)
                return
            self._waiting.setdefault(instance_id, (owned, tags, tries + 1))

    async def close(self) -> None:
        """What is not tagged stays so: the agent knows its pod."""
        await self._urgent.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
