"""Addresses that could not be had with the launch: assigned once the instance is there, a call for each, paced.

Nothing waits for it here: the agent waits for its addresses, and reports them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.aws.answers import DescribedInstance, find_second_address, parse_instance
from vk_provider.cloud.aws.ipv6 import find_ipv6, is_dual_stack
from vk_provider.cloud.aws.operations import ASSIGN_ADDRESSES, ASSIGN_IPV6_ADDRESSES, AwsApi
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
    """ipv4: a second address; ipv6: so many IPv6 ones."""

    instance_id: str
    interface_id: str
    ipv4: bool
    ipv6: int
    tries: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 30.0))


@dataclass(slots=True)
class _Assigned:
    ipv4: str = ""
    ipv6: tuple[str, ...] = ()


class SecondAddresses:
    """All descriptions of instances pass `complete`, so that what was assigned is known at once."""

    def __init__(self, api: AwsApi, ipv6: int = 0) -> None:
        """ipv6: how many IPv6 addresses each instance is to have."""
        self._api = api
        self._ipv6 = ipv6
        self._queue: asyncio.Queue[_Need] = asyncio.Queue()
        self._known: dict[str, _Assigned] = {}
        """ID -> what was assigned, until a description has it."""
        self._slow_until = 0.0

    def complete(self, raw: DescribedInstance) -> Instance:
        """What a description says, with the address that it does not show yet."""
        instance, known = parse_instance(raw), self._known.get(raw.instance_id)
        own_ipv6, pod_ipv6 = find_ipv6(raw)
        lacks_ipv6 = self._ipv6 and not pod_ipv6 and (known is not None or is_dual_stack(raw))
        has_all = instance.pod_ip and not lacks_ipv6
        if instance.state.has_stopped or has_all:
            self._known.pop(instance.instance_id, None)
        elif known is not None and (known.ipv4 or known.ipv6):
            own_ipv6, pod_ipv6 = find_ipv6(raw, known.ipv6)
            instance = replace(instance, pod_ip=instance.pod_ip or known.ipv4)
        elif instance.launch_time < time.time() - GRACE_S and not instance.state.is_terminating:
            self.assign(raw)
        if pod_ipv6 and not instance.state.is_terminated:
            instance = replace(instance, primary_ipv6=own_ipv6, pod_ipv6=pod_ipv6)
        return instance

    def assign(self, raw: DescribedInstance, *, is_new: bool = False) -> None:
        """See to it that the instance gets what it lacks, soon. is_new: it was launched with the settings of now."""
        interface = raw.primary_interface
        if interface is None or raw.instance_id in self._known:
            return
        wanted = self._ipv6 if is_new or is_dual_stack(raw) else 0
        ipv4, ipv6 = not find_second_address(raw), max(0, wanted - len(interface.ipv6_addresses))
        if ipv4 or ipv6:
            self._known[raw.instance_id] = _Assigned()
            self._queue.put_nowait(_Need(raw.instance_id, interface.network_interface_id, ipv4, ipv6))

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
                    log.warning("instance %s does not get its addresses: %s", need.instance_id, error)
                    continue
                asyncio.get_running_loop().call_later(need.backoff.next_delay_s(), self._queue.put_nowait, need)

    async def _assign(self, need: _Need) -> None:
        if need.instance_id not in self._known:
            return  # it has ended, or has an address
        if need.ipv4:
            parameters = {"NetworkInterfaceId": need.interface_id, "SecondaryPrivateIpAddressCount": 1}
            answer = await self._api.call(ASSIGN_ADDRESSES, parameters)
            need.ipv4 = False
            known = self._known.get(need.instance_id)
            if answer.assigned_private_ip_addresses and known is not None:
                known.ipv4 = answer.assigned_private_ip_addresses[0].private_ip_address
        if need.ipv6:
            wanted = {"NetworkInterfaceId": need.interface_id, "Ipv6AddressCount": need.ipv6}
            assigned = (await self._api.call(ASSIGN_IPV6_ADDRESSES, wanted)).assigned_ipv6_addresses
            need.ipv6 = 0
            known = self._known.get(need.instance_id)
            if known is not None:
                known.ipv6 = tuple(assigned)
