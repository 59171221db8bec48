"""The network namespace of an instance whose pod is in it: processes find it as they would find the Node's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.proxy.table import Table
from vk_provider.agent.proxy.writer import TableWriter
from vk_provider.aiokit.nft import NftError

log = logging.getLogger(__name__)


class _State(Enum):
    """FAILED: processes do not find it so, or not all of it, and containers do not wait for it; it is tried again."""

    NONE, WANTED, OPEN, FAILED = range(4)


class HostNetwork:
    """is_due: something is to be done, by `open`."""

    def __init__(self, facts: InstanceFacts, writer: TableWriter) -> None:
        self.is_due = False
        self._facts, self._writer = facts, writer
        self._state = _State.NONE

    @property
    def is_wanted(self) -> bool:
        """Containers have to wait for it."""
        return self._state is _State.WANTED

    @property
    def is_open(self) -> bool:
        return self._state is _State.OPEN

    def want(self) -> bool:
        """The pod is in the instance's network namespace. Returns whether that is new."""
        if self._state is not _State.NONE:
            return False
        self._state, self.is_due = _State.WANTED, True
        return True

    def retry(self) -> None:
        """Try again what has failed."""
        self.is_due |= self._state is _State.FAILED

    def note_addresses(self, before: Sequence[str], now: Sequence[str]) -> None:
        """The Node's, with a whole table."""
        if self._state is _State.OPEN and now != before:
            self._state, self.is_due = _State.WANTED, True
        self.retry()

    async def open(self, table: Table) -> None:
        """After the table is in force, which drops what this lets in. What fails is logged and tried again: a pod that
        needs none of it must not wait for ever, and the rest is of use without it."""
        from vk_provider.agent.proxy.vantage import write_host_network  # only where it is needed: it takes time

        self.is_due = False
        addresses, revision = table.copy.node_addresses, table.revision
        text = write_host_network(self._facts, addresses)
        failures: list[str] = []
        try:
            await asyncio.to_thread(_set_up_addresses, addresses, self._facts.host_ips)
        except OSError as error:
            failures.append(str(error))
        try:
            await self._writer.commit(table, text)
            await asyncio.to_thread(table.copy.append, revision, revision, text, ())
        except (NftError, OSError) as error:
            failures.append(str(error))
        if failures:
            log.error("host ports at 127.0.0.1, and the Node's address as a source: %s", "; ".join(failures))
        self._state = _State.FAILED if failures else _State.OPEN


def _set_up_addresses(node_addresses: Sequence[str], own_addresses: Sequence[str]) -> None:
    from vk_provider.agent.proxy.nodeaddress import set_up  # as above

    set_up(node_addresses, own_addresses)
