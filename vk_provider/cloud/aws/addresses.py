"""Second addresses that could not be had with the launch: assigned once the instance is there, a call for each, paced.

Nothing waits for it here: the agent waits for its second address, and reports it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.aws.answers import DescribedInstance, find_second_address, parse_instance
from vk_provider.cloud.aws.operations import ASSIGN_ADDRESSES, AwsApi
from vk_provider.cloud.base import Instance
from vk_provider.errors import CloudAccessError, CloudError, CloudThrottledError

log = logging.getLogger(__name__)

AT_ONCE = 4
TRIES = 8
GRACE_S = 15.0
"""An instance that a listing shows without its second address, so long after its launch, was launched by a process that
died before it could assign one."""


@dataclass(slots=True)
class _Need:
    instance_id: str
    interface_id: str
    tries: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 30.0))


class SecondAddresses:
    """All descriptions of instances pass `complete`, so that what was assigned is known at once."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api
        self._queue: asyncio.Queue[_Need] = asyncio.Queue()
        self._known: dict[str, str] = {}
        """ID -> address that was assigned, "" while it is not; until a description has it."""
        self._slow_until = 0.0

    def complete(self, raw: DescribedInstance) -> Instance:
        """What a description says, with the address that it does not show yet."""
        instance = parse_instance(raw)
        if instance.state.has_stopped or instance.pod_ip:
            self._known.pop(instance.instance_id, None)
            return instance
        if address := self._known.get(instance.instance_id):
            return replace(instance, pod_ip=address)
        if instance.launch_time < time.time() - GRACE_S and not instance.state.is_terminating:
            self.assign(raw)
        return instance

    def assign(self, raw: DescribedInstance) -> None:
        """See to it that the instance gets one, soon."""
        interface = raw.primary_interface
        if interface is None or raw.instance_id in self._known or find_second_address(raw):
            return
        self._known[raw.instance_id] = ""
        self._queue.put_nowait(_Need(raw.instance_id, interface.network_interface_id))

    async def run(self) -> None:
        """Assign, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            need = await self._queue.get()
            while (wait_s := self._slow_until - time.monotonic()) > 0:  # noqa: ASYNC110 - moves while it is waited for
                await asyncio.sleep(wait_s)
            try:
                await self._assign(need)
            except (CloudThrottledError, CloudAccessError) as error:
                delay_s = max(need.backoff.next_delay_s(), getattr(error, "retry_after_s", 0.0))
                self._slow_until = time.monotonic() + delay_s
                self._queue.put_nowait(need)
            except CloudError as error:
                need.tries += 1
                if need.tries >= TRIES:
                    self._known.pop(need.instance_id, None)
                    log.warning("instance %s has no second address: %s", need.instance_id, error)
                    continue
                asyncio.get_running_loop().call_later(need.backoff.next_delay_s(), self._queue.put_nowait, need)

    async def _assign(self, need: _Need) -> None:
        if need.instance_id not in self._known:
            return  # it has ended, or has an address
        parameters = {"NetworkInterfaceId": need.interface_id, "SecondaryPrivateIpAddressCount": 1}
        answer = await self._api.call(ASSIGN_ADDRESSES, parameters)
        if answer.assigned_private_ip_addresses and need.instance_id in self._known:
            self._known[need.instance_id] = answer.assigned_private_ip_addresses[0].private_ip_address
