"""Asks for a pod's instance beside its worker: a launch that takes long or has no answer holds up no deletion.

The answer belongs to whoever is there when it comes: the pod, or nobody any more, and then the instance is ended. A
launch without an answer is repeated with the same client token, which finds what it made; when its pod went meanwhile,
the cloud is asked by the pod's tag. What even that does not see is the orphan sweep's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import TAG_POD_UID, Cloud
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError
from vk_provider.pods.launcher import LaunchRefusedError, PodLauncher
from vk_provider.pods.record import PodRecord

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0

OnEvent = Callable[[PodRecord, str, str, str], None]
"""(record, event type, reason, message)."""


class LaunchTasks:
    """At most one launch a pod, in `record.launching` while it goes on.

    refused:  called with the refusal of a pod that is still wanted
    end:      terminates an instance that nobody wants any more
    wake:     the worker of a UID: the launch is over
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
        """Begin, unless it goes on already."""
        if record.launching is None:
            record.launching = asyncio.create_task(self._run(record), name=f"launch {record.uid}")
            self._tasks.add(record.launching)
            record.launching.add_done_callback(lambda task: self._done(record, task))

    def _done(self, record: PodRecord, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        record.launching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s: its launch failed", record.key, exc_info=error)
        if not record.forgotten:
            self._wake(record.uid)

    async def _run(self, record: PodRecord) -> None:
        unknown = await self._launch(record)
        if record.instance is not None:
            if record.forgotten:
                log.info("pod %s: went while %s was launched", record.key, record.instance.instance_id)
                await self._end(record, record.instance.instance_id)
        elif unknown and not _is_wanted(record):
            await self._end_unknown(record)

    async def _launch(self, record: PodRecord) -> bool:
        """Try until it succeeds, is refused, or nobody wants it; whether a try may have made an instance unseen."""
        unknown, backoff = False, Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while _is_wanted(record):
            try:
                await self._launcher.launch(record)
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
            log.warning("pod %s: not launched, again in %.1f s: %s", record.key, delay_s, failure)
            if _is_wanted(record):
                text = f"cannot launch an instance, will try again: {failure}"
                self._event(record, "Warning", "FailedLaunch", text)
                await asyncio.sleep(delay_s)
        return unknown

    async def _end_unknown(self, record: PodRecord) -> None:
        log.warning("pod %s: went during a launch that had no answer, looking for what it made", record.key)
        try:
            for instance in await self._cloud.list_owned():
                if instance.tags.get(TAG_POD_UID) == record.uid and not instance.state.is_terminating:
                    await self._end(record, instance.instance_id)
        except CloudError as error:
            log.warning("pod %s: what its launch made is left to the orphan sweep: %s", record.key, error)

    async def close(self) -> None:
        """Let go; the next process finds what is under way by token or tag."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_wanted(record: PodRecord) -> bool:
    return record.exists and not (record.deleting or record.forgotten or record.concluded)
