"""What the kernel says of its nf_tables: generation, revisions of our tables, and who changes what.

Source: linux/netfilter/nf_tables.h. Each transaction makes a new generation of the network namespace and is announced,
object by object and at its end, to the group NFNLGRP_NFTABLES.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from vk_provider.aiokit.netlink import (
    NLM_F_DUMP,
    Message,
    Requests,
    list_attributes,
    open_socket,
    pack_text,
    read_attributes,
    split_messages,
)

log = logging.getLogger(__name__)

NFTABLES = 10
"""The subsystem of netfilter."""
_SUBSYSTEM = NFTABLES << 8
NEW_ELEMENTS, _GETSETELEM = _SUBSYSTEM | 12, _SUBSYSTEM | 13
_NEWGEN, _GETGEN = _SUBSYSTEM | 15, _SUBSYSTEM | 16
NFPROTO_INET = 1
TABLE_NAME = 1
"""The first attribute of every object but a generation is its table."""
_SET_NAME, _ELEMENTS, _ELEMENT, _KEY, _VALUE = 2, 3, 1, 1, 1
_GEN_ID, _GEN_PROCESS_NAME = 1, 3
_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 270, 1, 7
_READ_BYTES = 1 << 16
_READS = 32
"""Reads in one turn of the event loop; what is more counts as lost."""

OnChange = Callable[[Collection[str], str | None], None]


@dataclass(frozen=True, slots=True)
class Announcement:
    """One message to the group: of a table that was changed, or of the end of a transaction."""

    table: str = ""
    generation: int = 0
    process: str = ""


def parse_announcement(message: Message) -> Announcement | None:
    """None for what is of no interest: objects of other families."""
    if message.kind == _NEWGEN:
        found = read_attributes(message.body)
        return Announcement("", _parse_u32(found.get(_GEN_ID)), _parse_text(found.get(_GEN_PROCESS_NAME, b"")))
    if message.kind & 0xFF00 != _SUBSYSTEM or message.family != NFPROTO_INET:
        return None
    for kind, value in list_attributes(message.body):
        return Announcement(_parse_text(value)) if kind == TABLE_NAME else None
    return None


def parse_revision(message: Message) -> str:
    """The address in a message that lists the set `revision`; "" in one without elements."""
    listed = read_attributes(message.body).get(_ELEMENTS, b"")
    for _, element in list_attributes(listed):
        value = read_attributes(read_attributes(element).get(_KEY, b"")).get(_VALUE, b"")
        if len(value) == 16:
            return str(ipaddress.IPv6Address(value))
    return ""


def read_revision(table: str) -> str:
    """The element of the set `revision` of a table inet, canonical IPv6 text; "" without one, or without the table.
    Raises OSError. Takes microseconds."""
    wanted = pack_text(TABLE_NAME, table) + pack_text(_SET_NAME, "revision")
    try:
        with Requests() as requests:
            found = [parse_revision(answer) for answer in requests.ask(_GETSETELEM, NLM_F_DUMP, NFPROTO_INET, wanted)]
    except FileNotFoundError:
        return ""
    return next((revision for revision in found if revision), "")


def read_generation() -> int:
    """Number of the newest transaction in this network namespace. Raises OSError. Takes microseconds."""
    with Requests() as requests:
        for answer in requests.ask(_GETGEN, 0, 0):
            return _parse_u32(read_attributes(answer.body).get(_GEN_ID))
    return 0


def _parse_u32(value: bytes | None) -> int:
    return int(struct.unpack("!I", value)[0]) if value is not None and len(value) == 4 else 0


def _parse_text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


class OwnTransaction:
    """committed: set by the one who made it."""

    def __init__(self) -> None:
        self.committed = False


class RulesetWatch:
    """Tells of transactions of others that touch `tables`.

    on_change(tables, process): the process is named as it calls itself. None: announcements were lost, and nobody knows
                                whether the tables were touched
    While an own transaction is made nobody listens: the kernel would announce each of its elements.
    """

    def __init__(self, tables: Collection[str], on_change: OnChange) -> None:
        self._tables = frozenset(tables)
        self._on_change = on_change
        self._socket: socket.socket | None = None
        self._touched: set[str] = set()
        self._generation = 0

    def open(self) -> None:
        """Begin to listen. Raises OSError."""
        self._listen()
        self._generation = read_generation()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    @contextlib.contextmanager
    def own_transaction(self) -> Iterator[OwnTransaction]:
        """Around the one transaction that this process makes. It listens again afterwards, whatever was lost before.
        What others did meanwhile is told as a change that nobody knows."""
        own = OwnTransaction()
        self._read()
        was_deaf = self._socket is None
        self.close()
        before = read_generation()
        others = not was_deaf and before != self._generation
        try:
            yield own
        finally:
            self._listen()
            self._generation = read_generation()
            if others or self._generation != before + own.committed:
                self._on_change(self._tables, None)

    def check(self) -> None:
        """Compare the kernel's generation with what was announced: a change that nobody told of counts as one of all
        tables."""
        self._read()
        if self._socket is None:
            self._listen()
        now = read_generation()
        if now != self._generation:
            self._generation = now
            self._on_change(self._tables, None)

    def _listen(self) -> None:
        made = open_socket()
        made.setblocking(False)
        made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self._touched.clear()
        self._socket = made
        asyncio.get_running_loop().add_reader(made.fileno(), self._read)

    def _read(self) -> None:
        """What was announced. When some of it is lost, the rest is not needed either: everything counts as changed, and
        nobody listens until that was put right."""
        if self._socket is None:
            return
        for _ in range(_READS):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # ENOBUFS
                log.debug("announcements of nf_tables lost: %s", error)
                break
            for message in split_messages(data):
                self._take(message)
        self.close()
        self._on_change(self._tables, None)

    def _take(self, message: Message) -> None:
        announced = parse_announcement(message)
        if announced is None:
            return
        if announced.table:
            if announced.table in self._tables:
                self._touched.add(announced.table)
            return
        touched, self._touched = self._touched, set()
        if _is_newer(announced.generation, self._generation):
            self._generation = announced.generation
            if touched:
                self._on_change(touched, announced.process)


def _is_newer(generation: int, known: int) -> bool:
    """By 32 bits that begin again."""
    return 0 < (generation - known) & 0xFFFFFFFF < 1 << 31
