"""Runs nft: one table of family inet whose revision is an element of its own set `revision` (serviceproxy, netpolicy).

Commands run in a thread of their own: a provider of hundreds of megabytes must not be copied by a fork on the event
loop, and subprocess uses vfork. Small texts can do without a process (`libnftables`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import subprocess
from collections.abc import Sequence

from vk_provider.aiokit.libnftables import NftLibrary
from vk_provider.errors import VkError

APPLY_LIMIT_S = 120.0
"""10,000 Services take seconds; more on a small machine that is busy."""
READ_LIMIT_S = 30.0
IN_PROCESS_BYTES = 16 << 10
"""A longer text is given to a process: what it takes to read it would stay with this one."""
_REVISION = re.compile(r"elements = \{ ([0-9a-f:.]+) \}")


class NftError(VkError):
    """nft is not there, did not end, or refused the text; str() is what it said, in one line."""


def list_revision(table: str) -> tuple[str, ...]:
    """The arguments of nft whose output `parse_revision` reads."""
    return ("list", "set", "inet", table, "revision")


def parse_revision(listed: str) -> str:
    """Canonical IPv6 text; "" when the set is empty."""
    found = _REVISION.search(listed)
    return str(ipaddress.ip_address(found[1])) if found else ""


class NftTable:
    """name:    of the table
    prefix:  command that nft is run by, such as one that enters another network namespace
    library: applies small texts without a process, in the network namespace of this one. A fault of nft's would end
             this process: right for an agent, whose own pod's tables they are, and not for a provider
    """

    def __init__(self, name: str, prefix: Sequence[str] = (), library: NftLibrary | None = None) -> None:
        self.name = name
        self._nft = (*prefix, "nft")
        self._library = library

    async def apply(self, text: str) -> None:
        """Apply the commands of `text` in one transaction: all of them or none. Raises NftError.

        Cancelled, it ends nft, if that runs; whether the text was applied is then unknown.
        """
        if "\0" in text:
            raise NftError("nft: a text with a zero byte, where nft would end to read")
        if self._library is not None and len(text) <= IN_PROCESS_BYTES:
            done = await asyncio.to_thread(self._library.run, text)
            if done is not None:
                code, errors = done
                if code:
                    raise NftError(_describe(errors, code))
                return
        await self._run(("-f", "-"), text, APPLY_LIMIT_S)

    async def read_revision(self) -> str:
        """The revision in force, canonical IPv6 text; "" without one, or without the table. Raises NftError."""
        try:
            return parse_revision(await self._run(list_revision(self.name), None, READ_LIMIT_S))
        except _NoTableError:
            return ""

    async def list_chain(self, chain: str) -> str:
        """Its rules as nft writes them; "" without the chain or the table. Raises NftError."""
        try:
            return await self._run(("list", "chain", "inet", self.name, chain), None, READ_LIMIT_S)
        except _NoTableError:
            return ""

    async def remove(self) -> None:
        """Delete the table if it is there. Raises NftError."""
        await self.apply(self.removal)

    @property
    def removal(self) -> str:
        """Commands that delete the table if it is there: what follows in a transaction begins with nothing."""
        return f"add table inet {self.name}\ndelete table inet {self.name}\n"

    async def _run(self, arguments: Sequence[str], text: str | None, limit_s: float) -> str:
        command = _Command((*self._nft, *arguments), text, limit_s)
        try:
            return await asyncio.to_thread(command.run)
        except asyncio.CancelledError:
            command.kill()
            raise


class _NoTableError(NftError):
    """What was to be listed is not there."""


class _Command:
    """One run of nft. `run` blocks; `kill` ends it from another thread, also before it has begun."""

    def __init__(self, argv: Sequence[str], text: str | None, limit_s: float) -> None:
        self._argv, self._text, self._limit_s = argv, text, limit_s
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def kill(self) -> None:
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def run(self) -> str:
        """Standard output. Raises NftError."""
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            raise NftError(f"{self._argv[0]} cannot be run: {error.strerror}") from None
        with process:
            self._process = process
            if self._killed:
                process.kill()
            try:
                output, errors = process.communicate(self._text, self._limit_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise NftError(f"nft: no end after {self._limit_s:g} s") from None
        if process.returncode:
            said = _describe(errors, process.returncode)
            raise (_NoTableError if self._text is None and "No such file or directory" in said else NftError)(said)
        return output


def _describe(errors: str, code: int) -> str:
    """nft repeats the whole line that it could not read, which may be a megabyte, below its own words."""
    said = next((line for line in errors.splitlines() if "Error:" in line), "") or " ".join(errors.split())
    return f"nft: {said[:1000] or f'exit code {code}'}"
