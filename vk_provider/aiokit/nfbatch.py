"""Transactions of a netfilter subsystem straight to the kernel. Blocking: the kernel carries one out before the call
returns.

Source: linux/netfilter/nfnetlink.h. A transaction is one write to the socket, whose send buffer must hold it. Without
CAP_NET_ADMIN of the machine itself a buffer is limited (net.core.wmem_max), so it is asked what there is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence

from vk_provider.aiokit.netlink import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    Message,
    open_socket,
    pack_message,
    split_messages,
)

MAX_BATCH_BYTES = 4 << 20
"""Nobody else changes rules in the network namespace while the kernel takes so much, some tenths of a second."""
_BEGIN, _END = 16, 17
_SO_SNDBUFFORCE = 32
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_ANSWER_LIMIT_S = 60.0
_ANSWER_BYTES = 1 << 16
_RESERVED_BYTES = 1 << 10
"""Of the buffer, for what a transaction has beside its messages, and the kernel's own."""


def may_be_large() -> bool:
    """Whether the kernel takes transactions of any size from this process. Raises OSError."""
    with open_socket() as probe:
        return _force_buffer(probe, MAX_BATCH_BYTES)


def _force_buffer(made: socket.socket, size: int) -> bool:
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except PermissionError:
        return False
    return True


class BatchSocket:
    """Use as a context manager, in one thread at a time. Raises OSError."""

    def __init__(self, subsystem: int) -> None:
        self._edges = [pack_message(kind, NLM_F_REQUEST, 0, resource=subsystem) for kind in (_BEGIN, _END)]
        self._socket = open_socket()
        self._socket.settimeout(_ANSWER_LIMIT_S)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        if not _force_buffer(self._socket, MAX_BATCH_BYTES):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BATCH_BYTES)
        held = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.capacity = min(held, MAX_BATCH_BYTES) - _RESERVED_BYTES

    def __enter__(self) -> BatchSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def group(self, messages: Iterable[Message]) -> Iterator[list[Message]]:
        """As many as one transaction can have."""
        group: list[Message] = []
        size = 0
        for message in messages:
            length = len(pack_message(0, 0, 0)) + len(message.body)
            if group and size + length > self.capacity:
                yield group
                group, size = [], 0
            group.append(message)
            size += length
        if group:
            yield group

    def commit(self, messages: Sequence[Message]) -> None:
        """All of them or none. Raises OSError: none, unless it is a TimeoutError."""
        begin, end = self._edges
        parts = [begin]
        for number, message in enumerate(messages, 1):
            flags = message.flags | NLM_F_REQUEST | (NLM_F_ACK if number == len(messages) else 0)
            parts.append(pack_message(message.kind, flags, message.family, message.body, number))
        self._socket.sendto(b"".join([*parts, end]), (0, 0))
        for _ in split_messages(self._socket.recv(_ANSWER_BYTES)):  # the first one is an error if there was any
            pass
