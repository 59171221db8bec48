"""Puts tables into the kernel: each text in one transaction of nft, or in stages where the kernel takes none of that
size, or for packed elements where no table is in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from vk_provider.agent.proxy.elements import list_messages, write_as_text
from vk_provider.agent.proxy.ruleset import NFTABLES, RulesetWatch
from vk_provider.agent.proxy.staging import is_too_large, rename_table, split_whole
from vk_provider.agent.proxy.table import Table
from vk_provider.aiokit.nfbatch import BatchSocket, may_be_large
from vk_provider.aiokit.nft import NftError, NftTable

log = logging.getLogger(__name__)


class TableWriter:
    """watch: is told of our own transactions. What is in force then is not guessed here: see Table.read_revision."""

    def __init__(self, watch: RulesetWatch) -> None:
        self._watch = watch
        self._may_be_large: bool | None = None

    async def commit(self, table: Table, text: str) -> None:
        """One transaction on the table in force, or on the first one. Raises NftError."""
        await self._commit_to(table, table.in_force, text)

    async def make_whole(self, table: Table, texts: Sequence[str], packed: str = "", *, anew: bool) -> None:
        """texts: what makes it, and differences. packed: elements that go with the first text. anew: what somebody has
        added is removed, too. So is the table of an agent whose sets have other types. Raises NftError, OSError."""
        if packed:
            if not table.revision or not self._takes_large():
                await self._make_staged(table, texts, packed)
                return
            # Clients keep the endpoints that they have by affinity.
            texts = [await asyncio.to_thread(write_as_text, texts[0], packed), *texts[1:]]
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

    def _takes_large(self) -> bool:
        if self._may_be_large is None:
            self._may_be_large = may_be_large()
        return self._may_be_large

    async def _make_staged(self, table: Table, texts: Sequence[str], packed: str = "") -> None:
        """Beside the one in force, which is deleted as the new one is put in force. Clients of Services with affinity
        get any endpoint then. Raises NftError: nothing has changed, unless it was about a difference."""
        new = table.other
        stages = await asyncio.to_thread(split_whole, texts[0])
        try:
            await self._commit_to(table, new, table.nft.removal + stages.skeleton)
            if packed and not await self._fill(table, new, packed):
                stages = await asyncio.to_thread(lambda: split_whole(write_as_text(texts[0], packed)))
            for piece in stages.pieces:
                await self._commit_to(table, new, piece)
            await self._commit_to(table, new, stages.hooks, after=table.in_force.removal)
        except (NftError, OSError):
            await self._commit_to(table, new, table.nft.removal)
            raise
        table.is_second = not table.is_second
        for text in texts[1:]:
            await self.commit(table, text)

    async def _fill(self, table: Table, target: NftTable, packed: str) -> bool:
        """Give the kernel packed elements. False: not all of them, as it refuses them in this form."""
        messages = await asyncio.to_thread(list_messages, packed, target.name)
        try:
            with BatchSocket(NFTABLES) as batches:
                for group in batches.group(messages):
                    with self._watch.own_transaction() as own:
                        await asyncio.to_thread(batches.commit, group)
                        own.committed = True
        except OSError as error:
            log.warning("table %s: its elements go to nft as text: the kernel says %s", table.name, error)
            return False
        return True

    async def _commit_to(self, table: Table, target: NftTable, text: str, after: str = "") -> None:
        """One transaction: the commands of `text`, on the table `target`, and then those of `after` as they are."""
        renamed = rename_table(text, table.nft.name, target.name)
        with self._watch.own_transaction() as own:
            await target.apply(renamed + after)
            own.committed = True
