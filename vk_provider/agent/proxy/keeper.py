"""Applies the tables that the provider sends, and keeps them as they are.

All texts go through one task. What it takes for a table to be in force is that the kernel says so: its revision is
read back after each text, at the start, and nowhere guessed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import cast

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.proxy.copies import TableCopy
from vk_provider.agent.proxy.hostnetwork import HostNetwork
from vk_provider.agent.proxy.ruleset import RulesetWatch
from vk_provider.agent.proxy.table import KERNEL_NAMES, SECOND_NAMES, Change, Table
from vk_provider.agent.proxy.writer import TableWriter
from vk_provider.aiokit.libnftables import NftLibrary
from vk_provider.aiokit.nft import NftError, NftTable
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.wire.tables import TableMessage, TableName, TablesMessage, TableStates, UdpFrontendEntry

log = logging.getLogger(__name__)

CHECK_S = 300.0
"""Pause between looks for changes that nobody announced."""
START_CHECK_S = 10.0
"""What was changed while no agent ran is not known: so long after the start the tables are made once more."""
MAX_ERROR = 1024

Report = Callable[[TablesMessage], None]


class TableKeeper:
    """`receive` what the provider sends; `run` does the work. report: called with each message for the provider."""

    def __init__(
        self, facts: InstanceFacts, directory: Path, report: Report, library: NftLibrary | None = None
    ) -> None:
        """directory: of the copies; gone after a reboot. Revisions are read here: AgentError without nf_tables.
        library: to share one, see NftTable."""
        self._facts = facts
        self._report = report
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        library = library or NftLibrary()
        self._tables = {
            name: Table(
                name,
                TableCopy(directory / f"{name}.copy"),
                NftTable(table, library=library),
                NftTable(SECOND_NAMES[name], library=library),
            )
            for name, table in KERNEL_NAMES.items()
        }
        self._by_kernel_name = {
            each.name: table for table in self._tables.values() for each in (table.nft, table.second)
        }
        self._watch = RulesetWatch(self._by_kernel_name, self._note_changes)
        self._writer = TableWriter(self._watch)
        self._host_network = HostNetwork(facts, self._writer)
        for table in self._tables.values():
            try:
                table.copy.load(table.read_revision())
            except OSError as error:
                raise AgentError(f"the kernel's nf_tables cannot be read: {error.strerror}") from None

    def states(self) -> TableStates:
        """For the greeting: the revisions in force."""
        return cast(TableStates, {name: table.told_revision for name, table in self._tables.items()})

    def in_force(self, name: TableName) -> NftTable:
        """Under its present name."""
        return self._tables[name].in_force

    def counts(self) -> dict[tuple[str, ...], float]:
        """(table, "applied" | "refused" | "mended" | "reapplied") -> how often; for the metrics."""
        return {(name, what): n for name, table in self._tables.items() for what, n in table.counts.items()}

    def describe(self) -> Json:
        """For people: see agent.proxy.explain."""
        return {
            name: {
                "revision": table.revision,
                "error": table.error,
                "waiting": len(table.waiting),
                "counts": dict(table.counts),
            }
            for name, table in self._tables.items()
        }

    def receive(self, message: TableMessage) -> None:
        """Take a text over. One that makes the whole table replaces those before it that still wait."""
        table = self._tables[message["name"]]
        if not message["base"]:
            table.waiting.clear()
        table.waiting.append(message)
        self._wake.set()

    def set_host_network(self, is_used: bool) -> None:
        """Whether the pod is in the instance's network namespace: then it is to look like the Node's."""
        if is_used and self._host_network.want():
            self._wake.set()

    # -- for the start of containers -----------------------------------------------------------------------------------

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the named tables that were never in force -> why, in words."""
        missing: dict[str, str] = {}
        for name in names:
            table = self._tables.get(cast(TableName, name))
            if table is None:
                missing[name] = "this agent does not know it"
            elif not table.was_in_force:
                missing[name] = table.error or ("it is being applied" if table.waiting else "it was not sent yet")
            elif name == "services" and self._host_network.is_wanted:
                missing[name] = "the Node's addresses are being set up"
        return missing

    async def wait_change(self) -> None:
        """Return after a text was applied or refused."""
        self._changed.clear()
        await self._changed.wait()

    # -- the work ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Never returns. Raises OSError when the kernel's announcements cannot be had."""
        loop = asyncio.get_running_loop()
        self._watch.open()
        try:
            check_s, is_first = loop.time() + START_CHECK_S, any(table.revision for table in self._tables.values())
            while True:
                self._wake.clear()
                if loop.time() >= check_s:
                    if is_first:
                        self._note_changes(KERNEL_NAMES.values(), None)
                    self._watch.check()
                    self._host_network.retry()
                    check_s, is_first = loop.time() + CHECK_S, False
                for table in self._tables.values():
                    await self._work(table)
                await self._sleep_until(check_s)
        finally:
            self._watch.close()

    async def _sleep_until(self, check_s: float) -> None:
        due = [table.change.due_s for table in self._tables.values() if table.change and table.change.due_s is not None]
        try:
            async with asyncio.timeout_at(min([check_s, *due])):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _work(self, table: Table) -> None:
        while table.waiting:
            await self._take(table, table.waiting.popleft())
        if table.name == "services" and table.revision and self._host_network.is_due:
            await self._host_network.open(table)
            self._changed.set()
        change = table.change
        if change is not None and change.due_s is not None and change.due_s <= asyncio.get_running_loop().time():
            await self._mend(table)

    async def _take(self, table: Table, message: TableMessage) -> None:
        """Apply one text and say what is in force then."""
        change = table.change
        if message["base"] and change is not None and change.seen and change.due_s is not None:
            await self._mend(table)  # the difference is to what was there before
        text = message["text"] if message["base"] else await self._complete(message)
        try:
            await self._apply(table, message, text)
            table.error = ""
        except (NftError, OSError) as error:
            table.error = str(error)
            log.error("table %s: not brought from revision %r to %s: %s", table.name, *_ends(message), error)
        table.counts["refused" if table.error else "applied"] += 1
        self._changed.set()
        if not table.error:
            await self._forget_flows(table, message.get("udp") or (), message.get("nodeAddresses"))
            await self._keep_copy(table, message, text)
        self._tell(table, answers=True)

    async def _apply(self, table: Table, message: TableMessage, text: str) -> None:
        """Raises NftError, OSError: nothing of it was applied."""
        base, wanted = _ends(message)
        if base:
            if table.read_revision() != base:
                raise NftError(f"the difference is to revision {base}, in force is {table.revision or 'none'}")
            await self._writer.commit(table, text)
        else:
            change, table.change = table.change, None
            try:
                packed = message.get("packed", "")
                await self._writer.make_whole(table, [text], packed, anew=change is not None and change.seen)
            except (NftError, OSError):
                table.change = table.change or change
                raise
        if table.read_revision() != wanted:
            raise NftError(f"the text has made revision {table.revision or 'none'}, not {wanted}")

    async def _mend(self, table: Table) -> None:
        """Make the table again from the copy; without one the provider is asked for it."""
        change, table.change = table.change, None
        assert change is not None
        try:
            copy = await asyncio.to_thread(table.copy.read) if table.copy.revision else None
            if copy is not None:
                await self._writer.make_whole(table, copy.texts, copy.packed, anew=change.seen)
                table.read_revision()
        except (NftError, OSError, ValueError) as error:
            log.error("table %s: not mended: %s", table.name, error)
            copy = None
        if copy is None:
            # What was not seen did most likely nothing to this table.
            table.change = Change(change.by, True, None) if change.seen else None
            if not table.read_revision() or change.seen:
                self._tell_lost(table)
            return
        table.counts["mended" if change.seen else "reapplied"] += 1
        if change.seen:
            by = f" ({change.by})" if change.by else ""
            log.warning("table %s: changed by another program%s, mended", table.name, by)
        await self._forget_flows(table, copy.udp, None)

    def _note_changes(self, kernel_names: Collection[str], by: str | None) -> None:
        """From the watch. by: None when nobody knows whether they were changed."""
        now_s = asyncio.get_running_loop().time()
        for kernel_name in kernel_names:
            table = self._by_kernel_name[kernel_name]
            if table.change is None:
                table.change = Change(by or "", by is not None, table.pacing.due_s(now_s))
                self._wake.set()
            elif by is not None:
                table.change.by, table.change.seen = by, True

    def _tell_lost(self, table: Table) -> None:
        if table.was_in_force:
            table.error = "it was changed by another program, and there is no copy to mend it from"
            self._tell(table, answers=False)

    def _tell(self, table: Table, *, answers: bool) -> None:
        """answers: a text. Else the provider has not asked."""
        message = TablesMessage(type="tables", tables=self.states())
        if answers:
            message["name"] = table.name
        if table.error:
            message["error"] = f"{table.name}: {table.error}"[:MAX_ERROR]
        self._report(message)

    # -- around a text -------------------------------------------------------------------------------------------------

    async def _complete(self, message: TableMessage) -> str:
        """A whole text with what differs from one instance to the next."""
        if message["name"] != "services":
            return message["text"]
        from vk_provider.agent.proxy.vantage import write_vantage  # only where there are tables: it takes time

        return message["text"] + write_vantage(
            self._facts,
            message.get("nodeAddresses") or (),
            has_host_network=self._host_network.is_open,
        )

    async def _forget_flows(
        self, table: Table, udp: Sequence[UdpFrontendEntry], node_addresses: Sequence[str] | None
    ) -> None:
        if not udp:
            return
        known = node_addresses if node_addresses is not None else table.copy.node_addresses
        try:
            count = await asyncio.to_thread(_forget_stale, udp, (*known, *self._facts.host_ips))
        except (OSError, ValueError) as error:
            log.error("UDP flows to endpoints that have gone were not forgotten: %s", error)
            return
        if count:
            log.info("%d UDP flows to endpoints that have gone were forgotten", count)

    async def _keep_copy(self, table: Table, message: TableMessage, text: str) -> None:
        udp, (base, revision) = message.get("udp") or (), _ends(message)
        if base:
            await asyncio.to_thread(table.copy.append, base, revision, text, udp)
        else:
            addresses = tuple(message.get("nodeAddresses") or ())
            self._host_network.note_addresses(table.copy.node_addresses, addresses)
            packed = message.get("packed", "")
            await asyncio.to_thread(table.copy.replace, revision, text, udp, addresses, packed)


def _ends(message: TableMessage) -> tuple[str, str]:
    return message["base"], message["revision"]


def _forget_stale(udp: Sequence[UdpFrontendEntry], nodeport_addresses: Sequence[str]) -> int:
    from vk_provider.agent.proxy.flows import forget_flows  # as above

    return forget_flows(udp, nodeport_addresses)
