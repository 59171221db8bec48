"""What a table was some revisions ago, as far as a difference to it needs that. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from vk_provider.serviceproxy.fragment import Fragment
from vk_provider.serviceproxy.table import Table

MAX_CHANGES = 8_192
"""Changed Services that are remembered: minutes of a busy cluster. Each costs its earlier fragment, some kilobytes."""


@dataclass(frozen=True, slots=True)
class _Step:
    """From the table of `revision` to the next one. before: the fragments that the next one has others of, None where
    there was none; chains, cidrs: of the table itself."""

    revision: str
    before: Mapping[str, Fragment | None]
    chains: frozenset[str]
    cidrs: tuple[str, ...]


class TableHistory:
    """The newest table, and the way to it from earlier ones; the oldest steps are forgotten beyond `limit` changes."""

    def __init__(self, limit: int = MAX_CHANGES) -> None:
        self._limit = limit
        self._changes = 0
        self._steps: deque[_Step] = deque()
        self._count: dict[str, int] = {}
        self.newest: Table | None = None

    def add(self, table: Table) -> None:
        """`table` replaces the newest one, from which it was made."""
        last, self.newest = self.newest, table
        if last is None or last.revision == table.revision:
            return
        if table.base != last.revision:
            raise ValueError("a table that was not made from the newest one")
        before = {key: last.fragments.get(key) for key in table.changed}
        self._steps.append(_Step(last.revision, before, last.chains, last.service_cidrs))
        self._count[last.revision] = self._count.get(last.revision, 0) + 1
        self._changes += len(before)
        while self._changes > self._limit and len(self._steps) > 1:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        step = self._steps.popleft()
        self._changes -= len(step.before)
        self._count[step.revision] -= 1
        if not self._count[step.revision]:
            del self._count[step.revision]

    def _way_from(self, revision: str) -> Iterator[_Step]:
        """The steps from the table that had `revision` last, newest first. Empty when it is not known."""
        if revision in self._count:
            yield from takewhile(lambda step: step.revision != revision, reversed(self._steps))
            yield next(step for step in reversed(self._steps) if step.revision == revision)

    def since(self, revision: str) -> tuple[Table, Table] | None:
        """An earlier table and the newest one, for `diff_tables`; of the earlier one only what differs. None when it is
        forgotten or was never known."""
        before: dict[str, Fragment | None] = {}
        first: _Step | None = None
        for first in self._way_from(revision):
            before |= first.before
        if first is None or self.newest is None:
            return None
        fragments = {key: fragment for key, fragment in before.items() if fragment is not None}
        earlier = Table(revision, fragments, first.chains, first.cidrs, "", frozenset())
        return earlier, replace(self.newest, base=revision, changed=frozenset(before))

    def count_changes(self, revision: str) -> int | None:
        """How many changed Services the way from `revision` has, some of them several times; None when the way is not
        known."""
        if self.newest is not None and revision == self.newest.revision:
            return 0
        return sum(len(step.before) for step in self._way_from(revision)) if revision in self._count else None
