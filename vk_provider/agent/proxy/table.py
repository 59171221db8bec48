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
SECOND_NAMES: dict[TableName, str] = {name: f"{table}-2" for name, table in KERNEL_NAMES.items()}
"""Of a table that is made in stages while an earlier one is in force (staging)."""


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
    """nft:       under the name that texts have
    second:    under the other one
    is_second: the one in force has the other name
    revision:  in force, as last read from the kernel; "" for none
    was_in_force: since this agent has started, or before
    waiting:   texts that are not applied yet, the oldest first
    error:     why the last text was not applied
    too_large: characters of a whole text that the kernel did not take in one transaction; None before
    counts:    "applied", "refused", "mended" (a change that was seen) and "reapplied" (one that may have been)
    """

    name: TableName
    copy: TableCopy
    nft: NftTable
    second: NftTable
    is_second: bool = False
    too_large: int | None = None
    pacing: MendPacing = field(default_factory=MendPacing)
    waiting: deque[TableMessage] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    revision: str = ""
    was_in_force: bool = False
    change: Change | None = None
    error: str = ""

    def read_revision(self) -> str:
        """Ask the kernel; it knows, too, under which name the table is in force. Raises OSError."""
        self.revision = read_revision(self.in_force.name)
        if not self.revision and (other := read_revision(self.other.name)):
            self.is_second, self.revision = not self.is_second, other
        self.was_in_force |= bool(self.revision)
        return self.revision

    @property
    def in_force(self) -> NftTable:
        return self.second if self.is_second else self.nft

    @property
    def other(self) -> NftTable:
        return self.nft if self.is_second else self.second

    @property
    def told_revision(self) -> str:
        """For the provider: a table that cannot be mended here is wanted as a whole."""
        return "" if self.change is not None and self.change.due_s is None else self.revision
