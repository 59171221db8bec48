"""INITs of SCTP, where the kernel has no sockets for it: its packets are translated all the same."""

from __future__ import annotations

import errno
import itertools
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

SCTP = 132
_IP_RECVERR, _IPV6_RECVERR, _MSG_ERRQUEUE = 11, 25, 0x2000
_IP_PKTINFO, _IPV6_PKTINFO, _IPV6_RECVPKTINFO = 8, 50, 49
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_SO_RCVBUFFORCE, _BUFFER_BYTES = 33, 4 << 20
OpenSocket = Callable[[str, int, int, int], socket.socket]
"""By namespace, family, kind and protocol."""
_tags = itertools.count(1)
_ports = itertools.cycle(range(20000, 60000))


def make_init(source: int, target: int, tag: int = 1) -> bytes:
    """An INIT between two ports; the tag is the sender's and comes through every translation."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, tag, 65535, 1, 1, 1)
    head = struct.pack("!HHI", source, target, 0)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk


def send_inits(
    open_socket: OpenSocket, senders: Sequence[str], receivers: Sequence[str], wait_s: float, targets: Sequence[Any]
) -> list[tuple[str, str, int, str] | int | None]:
    """Send one INIT each and see where it arrives.

    senders:   namespace of each
    receivers: namespaces in which it may arrive
    targets:   (source address or "", target address, port) of each

    Returns for each (namespace, address, port, source that was seen), or the number of the error that came back, or
    None when nothing came in `wait_s`.
    """
    with selectors.DefaultSelector() as selector:
        inits = _Inits(targets, senders)
        for namespace in receivers:
            for family in (socket.AF_INET, socket.AF_INET6):
                made = open_socket(namespace, family, socket.SOCK_RAW, SCTP)
                made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
                selector.register(made, selectors.EVENT_READ, namespace)
        outward: dict[tuple[str, int], socket.socket] = {}
        for namespace, family in inits.places():
            made = outward[namespace, family] = open_socket(namespace, family, socket.SOCK_RAW, SCTP)
            _prepare_sender(made)
            selector.register(made, selectors.EVENT_READ, None)
        inits.send(outward)
        deadline = time.monotonic() + wait_s
        while inits.are_open:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                found: Any = key.fileobj
                if key.data is None:
                    inits.take_errors(found)
                else:
                    inits.take(found, key.data)
            if not ready and time.monotonic() >= deadline:
                break
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        return inits.results


class _Inits:
    """What was sent and what came of it."""

    def __init__(self, targets: Sequence[tuple[str, str, int]], namespaces: Sequence[str]) -> None:
        self._targets, self._namespaces = targets, namespaces
        self.results: list[tuple[str, str, int, str] | int | None] = [None] * len(targets)
        self._tags = [next(_tags) for _ in targets]
        self._ports = [next(_ports) for _ in targets]
        self._by_tag = {tag: number for number, tag in enumerate(self._tags)}
        self._by_port = {port: number for number, port in enumerate(self._ports)}

    @property
    def are_open(self) -> bool:
        return any(result is None for result in self.results)

    def places(self) -> set[tuple[str, int]]:
        return {
            (namespace, _family(target))
            for namespace, (_, target, _) in zip(self._namespaces, self._targets, strict=True)
        }

    def send(self, outward: Mapping[tuple[str, int], socket.socket]) -> None:
        for number, (source, target, port) in enumerate(self._targets):
            init = make_init(self._ports[number], port, self._tags[number])
            sender = outward[self._namespaces[number], _family(target)]
            for left in reversed(range(4)):  # an error that another INIT got is told once by the next call
                try:
                    sender.sendmsg([init], _from(source), 0, (target, 0))
                    break
                except OSError as error:
                    if not left:
                        self.results[number] = error.errno or errno.EIO

    def take(self, receiver: socket.socket, namespace: str) -> None:
        try:
            packet, more, _, peer = receiver.recvmsg(2000, 200)
        except OSError:
            return
        if receiver.family == socket.AF_INET:
            source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            packet = packet[(packet[0] & 15) * 4 :]
        else:
            source, target = peer[0], socket.inet_ntop(socket.AF_INET6, more[0][2][:16])
        if len(packet) < 20 or packet[12] != 1:
            return
        number = self._by_tag.get(struct.unpack_from("!I", packet, 16)[0])
        if number is not None:
            self.results[number] = namespace, target, struct.unpack_from("!H", packet, 2)[0], source

    def take_errors(self, sender: socket.socket) -> None:
        """What ICMP has brought back: the head of the packet, and the error's number."""
        with suppress(OSError):
            sender.recv(2000)  # a copy of what arrives in its namespace
        while True:
            try:
                head, more, _, _ = sender.recvmsg(200, 500, _MSG_ERRQUEUE)
            except OSError:
                return
            number = self._by_port.get(struct.unpack_from("!H", head)[0]) if len(head) >= 2 else None
            if number is not None and self.results[number] is None:
                self.results[number] = struct.unpack_from("=I", more[0][2])[0]


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _from(source: str) -> list[tuple[int, int, bytes]]:
    if not source:
        return []
    if ":" in source:
        return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, source) + bytes(4))]
    return [(socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + socket.inet_aton(source) + bytes(4))]


def _prepare_sender(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
