"""The end of instances: their first process is killed, and what they leave is removed in the background."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable

from vk_provider.cloud.base import InstanceState, TerminateResult
from vk_provider.cloud.local.cgroup import InstanceCgroup
from vk_provider.cloud.local.process import end_process
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

_KILL_TIMEOUT_S = 10.0


class InstanceEnds:
    """clean_ups: under way, by instance ID

    lock_of:        of an instance, by ID: held by whoever launches or terminates it
    cgroup_of:      the control group of an instance
    release_images: called in a thread with the record of an instance that has gone
    """

    def __init__(
        self,
        store: InstanceStore,
        lock_of: Callable[[str], asyncio.Lock],
        cgroup_of: Callable[[InstanceRecord], InstanceCgroup],
        release_images: Callable[[InstanceRecord], None],
    ) -> None:
        self.clean_ups: dict[str, asyncio.Task[None]] = {}
        self._store, self._lock_of = store, lock_of
        self._cgroup_of, self._release_images = cgroup_of, release_images

    async def terminate(self, instance_id: str) -> TerminateResult:
        """As a call of Cloud.terminate asks for."""
        try:
            await self._terminate(instance_id)
        except CloudError as error:
            return error
        except OSError as error:
            return CloudError(f"local cloud: cannot terminate {instance_id}: {error}")
        return None

    async def _terminate(self, instance_id: str) -> None:
        async with self._lock_of(instance_id):
            # Read again under the lock: its last holder may have terminated this instance.
            record = await asyncio.to_thread(self._store.load, instance_id)
            if record is None or record.state == InstanceState.TERMINATED:
                return
            if record.state == InstanceState.SHUTTING_DOWN:
                self.clean_up(record, record.state_reason)
            else:
                await self.end(record, "Client.UserInitiatedShutdown: terminated by request")

    async def end(self, record: InstanceRecord, reason: str) -> None:
        """Stop the instance now; its files are removed in the background. Raises CloudError when it does not end."""
        try:
            ending = await asyncio.to_thread(self._store.mark, record, InstanceState.SHUTTING_DOWN, reason)
        except OSError as error:  # a full disk must not prevent termination, which frees space
            log.warning("instance %s: its state cannot be written: %s", record.instance_id, error)
            ending = record
        if not await self._kill(record):
            raise CloudError(f"local cloud: {record.instance_id} does not end")
        self.clean_up(ending, reason)

    async def _kill(self, record: InstanceRecord) -> bool:
        """Whether the instance has no first process then."""
        identity = self._store.identity(record.instance_id)
        return identity is None or await end_process(identity, signal.SIGKILL, _KILL_TIMEOUT_S)

    def clean_up(self, record: InstanceRecord, reason: str) -> None:
        """Start to remove the files of a terminated instance, once."""
        if record.instance_id not in self.clean_ups:
            task = asyncio.create_task(self._clean_up(record, reason), name=f"clean up {record.instance_id}")
            self.clean_ups[record.instance_id] = task
            task.add_done_callback(lambda _: self.clean_ups.pop(record.instance_id, None))

    async def _clean_up(self, record: InstanceRecord, reason: str) -> None:
        try:
            if not await self._kill(record):
                raise CloudError("its first process does not end")
            await asyncio.to_thread(self._remove_leftovers, record, reason)
        except (OSError, CloudError) as error:
            log.warning("cannot clean up instance %s (tried again later): %s", record.instance_id, error)

    def _remove_leftovers(self, record: InstanceRecord, reason: str) -> None:
        group = self._cgroup_of(record)
        group.kill()
        if not group.remove():
            raise CloudError("its control group is still busy")
        self._store.release_addresses(record.instance_id, record.addresses.primary_ip)
        try:
            self._store.mark(record, InstanceState.TERMINATED, reason, terminated_time=time.time())
        except OSError:
            self._store.clear_disk(record.instance_id)  # frees space; the record stays until the end is reported
            self._store.mark(record, InstanceState.TERMINATED, reason, terminated_time=time.time())
        self._store.clear_directory(record.instance_id)
        self._release_images(record)

    async def wait_clean(self, instance_id: str) -> None:
        """Until an instance that was terminated a moment ago has left nothing."""
        if (clean_up := self.clean_ups.get(instance_id)) is not None:
            await asyncio.wait([clean_up])

    async def close(self) -> None:
        """Return when all clean-ups are through."""
        await asyncio.gather(*self.clean_ups.values(), return_exceptions=True)
