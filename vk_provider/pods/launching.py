"""Launches a pod's instance in a task of its own, so that a slow or unanswered launch delays no deletion.

An instance whose pod was deleted meanwhile is terminated. A launch without an answer is repeated with the same client
token, which returns the instance that it may have launched; if the pod was deleted, instances are looked up by its tag.
The orphan sweep terminates what is not listed by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from vk_provider import eventreasons
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import TAG_POD_UID, Cloud, Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError
from vk_provider.pods.launcher import LaunchRefusedError, PodLauncher
from vk_provider.pods.record import OnEvent, PodRecord

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0


class LaunchTasks:
    """At most one launch per pod; `record.launching` is its task.

    refused:  called with the refusal, if the pod still needs an instance
    end:      terminates an instance whose pod needs none any more
    wake:     wakes the worker of a UID when the launch is done
    """

    def __init__(
        self,
        launcher: PodLauncher,
        cloud: Cloud,
        event: OnEvent,
        refused: Callable[[PodRecord, LaunchRefusedError], None],
        end: Callable[[PodRecord, str], Awaitable[bool]],
        wake: Callable[[str], None],
    ) -> None:
        self._launcher = launcher
        self._cloud = cloud
        self._event = event
        self._refused = refused
        self._end = end
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, record: PodRecord) -> None:
        """Start a launch unless one is running."""
        if record.launching is None:
            queued = self._launcher.queue(record) if _is_wanted(record) else None
            record.launching = asyncio.create_task(self._run(record, queued), name=f"launch {record.uid}")
            self._tasks.add(record.launching)
            record.launching.add_done_callback(lambda task: self._done(record, task))

    def _done(self, record: PodRecord, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        record.launching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s: its launch failed", record.key, exc_info=error)
        if not record.forgotten:
            self._wake(record.uid)

    async def _run(self, record: PodRecord, queued: asyncio.Future[Instance] | None) -> None:
        unknown = await self._launch(record, queued)
        if record.instance is not None:
            if record.forgotten:
                log.info("pod %s: deleted while %s was launched", record.key, record.instance.instance_id)
                await self._end(record, record.instance.instance_id)
        elif unknown and not _is_wanted(record):
            await self._end_unknown(record)

    async def _launch(self, record: PodRecord, queued: asyncio.Future[Instance] | None) -> bool:
        """Try until it succeeds, is refused, or the pod needs no instance any more.

        Returns whether a try may have launched an instance whose ID is unknown."""
        unknown, backoff = False, Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while queued is not None or _is_wanted(record):
            try:
                answer, queued = queued, None
                await self._launcher.launch(record, answer)
                return unknown
            except LaunchRefusedError as refusal:
                if _is_wanted(record):
                    self._refused(record, refusal)
                return unknown
            except CloudError as error:
                unknown = unknown or not isinstance(error, CapacityError | CloudQuotaError)
                failure: Exception = error
            except Exception as error:
                unknown, failure = True, error
                log.debug("traceback", exc_info=error)
            delay_s = backoff.next_delay_s()
            log.warning("pod %s: launch failed, next try in %.1f s: %s", record.key, delay_s, failure)
            if _is_wanted(record):
                text = f"cannot launch an instance, will try again: {failure}"
                self._event(record, "Warning", eventreasons.FAILED_LAUNCH, text)
                await asyncio.sleep(delay_s)
        return unknown

    async def _end_unknown(self, record: PodRecord) -> None:
        log.warning("pod %s: deleted during a launch that had no answer, looking for its instance", record.key)
        try:
            for instance in await list_owned(self._cloud):
                if instance.tags.get(TAG_POD_UID) == record.uid and not instance.state.is_terminating:
                    await self._end(record, instance.instance_id)
        except CloudError as error:
            log.warning("pod %s: an instance of its launch is left to the orphan sweep: %s", record.key, error)

    async def close(self) -> None:
        """Cancel all launches; the next process finds their instances by token or tag."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_wanted(record: PodRecord) -> bool:
    return record.exists and not (record.deleting or record.forgotten or record.concluded)
