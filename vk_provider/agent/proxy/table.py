"""One nft table of the instance: the state that the keeper has of it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from vk_provider.agent.proxy.copies import TableCopy
from vk_provider.agent.proxy.pacing import MendPacing
from vk_provider.agent.proxy.ruleset import read_revision
from vk_provider.aiokit.nft import NftTable
from vk_provider.wire.tables import TableMessage, TableName

KERNEL_NAMES: dict[TableName, str] = {"services": "vk-services", "policy": "vk-policy"}
"""The names of the tables inet that the compiled texts make."""


@dataclass(slots=True)
class Change:
    """Somebody else's change of a table.

    by:     how that process calls itself, "" when it is not known
    seen:   an announcement named the table. Else something was not heard, and the table may be as it was
    due_s:  when it is mended, by the loop's clock; None when only the provider can: there is no copy
    """

    by: str
    seen: bool
    due_s: float | None


@dataclass(slots=True)
class Table:
    """revision:  in force, as last read from the kernel; "" for none
    was_in_force: since this agent has started, or before
    waiting:   texts that are not applied yet, the oldest first
    error:     why the last text was not applied
    counts:    "applied", "refused", "mended" (a change that was seen) and "reapplied" (one that may have been)
    """

    name: TableName
    copy: TableCopy
    nft: NftTable
    pacing: MendPacing = field(default_factory=MendPacing)
    waiting: deque[TableMessage] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    revision: str = ""
    was_in_force: bool = False
    change: Change | None = None
    error: str = ""

    def read_revision(self) -> str:
        """Ask the kernel. Raises OSError."""
        self.revision = read_revision(self.nft.name)
        self.was_in_force |= bool(self.revision)
        return self.revision

    @property
    def told_revision(self) -> str:
        """For the provider: a table that cannot be mended here is wanted as a whole."""
        return "" if self.change is not None and self.change.due_s is None else self.revision
