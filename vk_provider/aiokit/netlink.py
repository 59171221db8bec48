"""Netlink messages of the netfilter subsystems: packing and parsing (pure), and a socket for requests.

Source: linux/netlink.h, linux/netfilter/nfnetlink.h. Headers are in the machine's byte order, values of netfilter's
attributes in the network's.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_MULTI = 0x2
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000
_ANSWER_LIMIT_S = 10.0
_READ_BYTES = 1 << 16


class Message(NamedTuple):
    """kind: subsystem << 8 | message type; family: of nfgenmsg; body: the attributes."""

    kind: int
    flags: int
    family: int
    body: bytes


def pack_message(kind: int, flags: int, family: int, body: bytes = b"", sequence: int = 1, resource: int = 0) -> bytes:
    """resource: of nfgenmsg, the subsystem of a batch."""
    length = _HEADER.size + _NFGENMSG.size + len(body)
    return _HEADER.pack(length, kind, flags, sequence, 0) + _NFGENMSG.pack(family, 0, resource) + body


def pack_attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind | (_NESTED if nested else 0))
    return head + value + bytes(-len(value) % 4)


def pack_text(kind: int, value: str) -> bytes:
    return pack_attribute(kind, value.encode() + b"\0")


def split_messages(data: bytes) -> Iterator[Message]:
    """The messages of one read, the last one of a dump (NLMSG_DONE) included. Raises OSError for an error that is
    reported among them; one that reports success is left out."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        body = data[offset + _HEADER.size : offset + length]
        offset += length + (-length % 4)
        if kind in (_NLMSG_ERROR, _NLMSG_DONE):
            code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            if code:
                raise OSError(code, os.strerror(code))
            if kind == _NLMSG_DONE:
                yield Message(kind, flags, 0, b"")
        else:
            yield Message(kind, flags, body[0] if body else 0, body[_NFGENMSG.size :])


def read_attributes(body: bytes) -> dict[int, bytes]:
    """Type -> value; of a type that comes several times the last."""
    return dict(list_attributes(body))


def list_attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            return
        yield kind & _TYPE_MASK, body[offset + _ATTRIBUTE.size : offset + length]
        offset += length + (-length % 4)


def open_socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    made.bind((0, 0))  # a socket without a port hears no group
    return made


class Requests:
    """A socket for one request after the other; use as a context manager. The kernel answers at once: only a dump of
    much is worth a thread."""

    def __init__(self) -> None:
        self._socket = open_socket()
        self._socket.settimeout(_ANSWER_LIMIT_S)
        self._sequence = 0

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, flags: int, family: int, body: bytes = b"") -> Iterator[Message]:
        """The answers to a request, nothing to one that only wants NLM_F_ACK. Raises OSError."""
        self._sequence += 1
        self._socket.sendto(pack_message(kind, flags | NLM_F_REQUEST, family, body, self._sequence), (0, 0))
        while True:
            more = False
            for message in split_messages(self._socket.recv(_READ_BYTES)):
                if message.kind == _NLMSG_DONE:
                    return
                more = bool(message.flags & _NLM_F_MULTI)
                yield message
            if not more:
                return
