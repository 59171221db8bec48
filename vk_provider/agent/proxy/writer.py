"""Puts texts into the kernel: each in one transaction of nft, or in stages where the kernel takes none of that size."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from vk_provider.agent.proxy.ruleset import RulesetWatch
from vk_provider.agent.proxy.staging import is_too_large, rename_table, split_whole
from vk_provider.agent.proxy.table import Table
from vk_provider.aiokit.nft import NftError, NftTable

log = logging.getLogger(__name__)


class TableWriter:
    """watch: is told of our own transactions. What is in force then is not guessed here: see Table.read_revision."""

    def __init__(self, watch: RulesetWatch) -> None:
        self._watch = watch

    async def commit(self, table: Table, text: str) -> None:
        """One transaction on the table in force, or on the first one. Raises NftError."""
        await self._commit_to(table, table.in_force, text)

    async def make_whole(self, table: Table, texts: Sequence[str], *, anew: bool) -> None:
        """texts: what makes it, and differences. anew: what somebody has added is removed, too. So is the table of an
        agent whose sets have other types. Raises NftError, OSError."""
        text = "".join(texts)
        if table.too_large is not None and len(text) >= table.too_large:
            await self._make_staged(table, texts)
            return
        try:
            if not anew:
                try:
                    await self.commit(table, text)
                    return
                except NftError as error:
                    if is_too_large(str(error)):
                        raise
                    log.info("table %s: made anew, as the one that is there is of another form: %s", table.name, error)
            await self.commit(table, table.nft.removal + text)
        except NftError as error:
            if not is_too_large(str(error)):
                raise
            table.too_large = len(text)
            log.info("table %s: made in stages, as the kernel takes no transaction of this size", table.name)
            await self._make_staged(table, texts)

    async def _make_staged(self, table: Table, texts: Sequence[str]) -> None:
        """Beside the one in force, which is deleted as the new one is put in force. Clients of Services with affinity
        get any endpoint then. Raises NftError: nothing has changed, unless it was about a difference."""
        new = table.other
        stages = await asyncio.to_thread(split_whole, texts[0])
        try:
            await self._commit_to(table, new, table.nft.removal + stages.skeleton)
            for piece in stages.pieces:
                await self._commit_to(table, new, piece)
            await self._commit_to(table, new, stages.hooks, after=table.in_force.removal)
        except (NftError, OSError):
            await self._commit_to(table, new, table.nft.removal)
            raise
        table.is_second = not table.is_second
        for text in texts[1:]:
            await self.commit(table, text)

    async def _commit_to(self, table: Table, target: NftTable, text: str, after: str = "") -> None:
        """One transaction: the commands of `text`, on the table `target`, and then those of `after` as they are."""
        renamed = rename_table(text, table.nft.name, target.name)
        with self._watch.own_transaction() as own:
            await target.apply(renamed + after)
            own.committed = True
