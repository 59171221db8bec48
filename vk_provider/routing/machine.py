"""A Node's table on the machine that owns its address: node ports answer there, and its processes reach Services.

The table has a name of its own, as several Nodes and other clusters may share the machine. It stays over a crash of the
provider, so what works goes on working, and goes at a clean stop. Whether packets that come from elsewhere may pass is
the machine's own business (net.ipv4.ip_forward), as with kube-proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import socket
from collections.abc import Callable, Sequence

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.nft import NftError, NftTable
from vk_provider.conntrack import forget_stale
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.frame import NODE_TABLE_PREFIX
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_table
from vk_provider.serviceproxy.table import Table, diff_tables

log = logging.getLogger(__name__)

ForgetFlows = Callable[[Sequence[UdpFrontend], Sequence[str]], int]
"""As conntrack.forget_stale."""
PAUSE_S = 0.05
"""The instances first: to tell them takes the same processors as nft does on this machine."""
WHOLE_PAUSE_S = 50e-6
"""The same before a whole table, for each of its Services: so long an instance needs to have them in force."""
LOOK_S = 60.0
"""How often it is read whether the table is still ours."""
_PLAIN = re.compile(r"[a-zA-Z0-9.-]{1,63}")
_MAX_NAME = 255
"""nft takes no longer names; a Node's has 253 characters at most."""


def name_table(cloud: str, node: str) -> str:
    """The table of a Node of one cloud. Neither name has a "_", so `<prefix><cloud>_` names all tables of a cloud: an
    owner, which may be any text that a tag takes, stands as its hash unless it is a name for nft."""
    if not _PLAIN.fullmatch(cloud):
        cloud = f"owner-{hashlib.blake2b(cloud.encode(), digest_size=8).hexdigest()}"
    name = f"{NODE_TABLE_PREFIX}{cloud}_{node}"
    if len(name) <= _MAX_NAME:
        return name
    return f"{NODE_TABLE_PREFIX}{cloud}_{hashlib.blake2b(node.encode(), digest_size=16).hexdigest()}"


def owns_address(address: str) -> bool:
    """Whether the address is one of this machine's: of the network namespace of this process."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class MachineTable:
    """Root task `run` keeps the newest table in force.

    required: a machine that cannot have the table is an error in the log each time; else it is said once, and left at
              that
    forget_flows: blocking; in the network namespace of the table
    """

    def __init__(
        self,
        source: ServiceTables,
        nft: NftTable,
        node_addresses: Sequence[str],
        *,
        sees_replies: bool,
        required: bool,
        backoff: Backoff | None = None,
        forget_flows: ForgetFlows = forget_stale,
    ) -> None:
        self._source, self._nft = source, nft
        self._vantage = Vantage(nodeport_addresses=tuple(node_addresses), sees_replies=sees_replies)
        self._forget_flows = forget_flows
        self._required = required
        self._backoff = backoff or Backoff(1.0, 60.0)
        self._applied: Table | None = None
        self._touched = False
        self.is_healthy = False
        """Whether the newest table is in force, or is being applied after another that was."""

    async def run(self) -> None:
        """Run until cancelled."""
        if not await self._is_possible():
            await asyncio.Event().wait()
        changed = asyncio.Event()
        unfollow = self._source.follow(changed.set)
        try:
            while True:
                changed.clear()
                try:
                    await self._bring_up_to_date()
                    self.is_healthy = self._applied is not None
                    self._backoff.reset()
                except NftError as error:
                    log.error("table %s of this machine: %s", self._nft.name, error)
                    self.is_healthy = False
                    self._applied = None
                    await asyncio.sleep(self._backoff.next_delay_s())
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), LOOK_S)
                    await asyncio.sleep(PAUSE_S)
                except TimeoutError:
                    await self._look()
        finally:
            unfollow()

    async def _look(self) -> None:
        """Forget what was applied when it is not in force any more."""
        with contextlib.suppress(NftError):
            if self._applied is not None and await self._nft.read_revision() != self._applied.revision:
                log.warning("table %s of this machine was changed by somebody else", self._nft.name)
                self._applied = None

    async def _is_possible(self) -> bool:
        try:
            await self._nft.read_revision()
        except NftError as error:
            if not self._required:
                log.info("Services are not translated on this machine: %s", error)
                return False
        return True

    async def _bring_up_to_date(self) -> None:
        """The newest table, by the difference to what was applied last; nft refuses that on another table."""
        newest = self._source.newest
        if newest is None:
            return
        applied = self._applied
        if applied is None:
            await asyncio.sleep(len(newest.fragments) * WHOLE_PAUSE_S)
            newest = self._source.newest or newest
            await self._apply_whole(newest)
            self._applied = newest
            await self._forget(tuple(newest.udp_frontends()))
        elif applied.revision != newest.revision:
            delta = await asyncio.to_thread(diff_tables, applied, newest)
            await self._nft.apply(await asyncio.to_thread(render_delta, delta, self._nft.name))
            self._applied = newest
            await self._forget(delta.udp)

    async def _forget(self, frontends: Sequence[UdpFrontend]) -> None:
        """UDP flows to endpoints that have gone, as the agent does it."""
        if not frontends:
            return
        try:
            count = await asyncio.to_thread(self._forget_flows, frontends, self._vantage.nodeport_addresses)
        except OSError as error:
            log.error("UDP flows of this machine to endpoints that have gone were not forgotten: %s", error)
            return
        if count:
            log.info("%d UDP flows of this machine to endpoints that have gone were forgotten", count)

    async def _apply_whole(self, newest: Table) -> None:
        text = await asyncio.to_thread(render_table, newest, self._vantage, self._nft.name)
        self._touched = True
        try:
            await self._nft.apply(text)
        except NftError as error:
            log.info("table %s of this machine is made anew: %s", self._nft.name, error)
            await self._nft.apply(self._nft.removal + text)  # it is of a version with other types, perhaps

    async def close(self) -> None:
        """Remove the table, after `run` was cancelled."""
        if self._touched:
            try:
                await self._nft.remove()
            except NftError as error:
                log.warning("table %s of this machine stays: %s", self._nft.name, error)
