"""Connections that are tried from both namespaces of a bed, all at once, and what became of each."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.serviceproxy.sctp import send_inits
from tests.service_objects import HOST_PORT
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns

IP_FREEBIND, IPV6_FREEBIND = 15, 78
MSG_ERRQUEUE, IPV6_RECVERR = 0x2000, 25
CHUNK = 200
"""Begun at once. The queue of a link whose receiver waits for a processor has 1,000 places."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection: from `source` ("" is the node itself) to target:port by `protocol` (TCP, UDP; SCTP: an INIT)."""

    source: str
    protocol: str
    target: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """kind: answered, refused, unreachable or dropped; by whom, and which source the endpoint saw."""

    kind: str
    endpoint: str = ""
    seen: str = ""


Answers = list[Answer]
"""By the number of the attempt."""


class Clients:
    """node, world: the namespaces. settle: returns when the endpoints have answered all that has reached them."""

    def __init__(self, node: str, world: str, settle: Callable[[], None]) -> None:
        self._node, self._world, self._settle = node, world, settle
        self._ports = itertools.cycle(range(20000, 60000))

    def connect(self, attempts: Sequence[Attempt], wait_s: float) -> list[Answer]:
        """What has no answer when `wait_s` is over and the endpoints have settled counts as dropped: however slow the
        endpoints are, what has reached them is no drop."""
        answers: list[Answer] = [Answer("dropped")] * len(attempts)
        inits = [number for number, attempt in enumerate(attempts) if attempt.protocol == "SCTP"]
        others = [number for number, attempt in enumerate(attempts) if attempt.protocol != "SCTP"]
        beside = threading.Thread(target=self._send_inits, args=(attempts, inits, answers, wait_s))
        if inits:
            beside.start()
        self._connect(attempts, others, answers, wait_s)
        if inits:
            beside.join()
        return answers

    def _connect(self, attempts: Sequence[Attempt], chosen: Sequence[int], answers: Answers, wait_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            for start in range(0, len(chosen), CHUNK):
                self._begin(attempts, chosen[start : start + CHUNK], selector, answers)
                _take(selector, 0, answers)
            deadline, settled = time.monotonic() + wait_s, False
            while selector.get_map():
                left = max(0.0, deadline - time.monotonic())
                if not _take(selector, left, answers) and time.monotonic() >= deadline:
                    if settled:
                        break
                    self._settle()
                    settled = True
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def _begin(
        self,
        attempts: Sequence[Attempt],
        chosen: Sequence[int],
        selector: selectors.BaseSelector,
        answers: list[Answer],
    ) -> None:
        """Sockets are made by one thread for each namespace: a thread joins a namespace as a whole."""

        def make(namespace: str, numbers: Sequence[int]) -> None:
            with open(f"/run/netns/{namespace}") as handle:
                setns(handle.fileno(), CLONE_NEWNET)
            for number in numbers:
                made[number] = self._client(attempts[number])

        made: dict[int, socket.socket] = {}
        for namespace, own in ((self._node, True), (self._world, False)):
            numbers = [number for number in chosen if (not attempts[number].source) == own]
            if numbers:
                thread = threading.Thread(target=make, args=(namespace, numbers))
                thread.start()
                thread.join()
        for number, client in made.items():
            attempt = attempts[number]
            try:
                client.connect((attempt.target, attempt.port))
                if attempt.protocol == "UDP":
                    client.send(b"?")
            except BlockingIOError:
                pass
            except OSError as error:
                answers[number] = make_failure(error)
                client.close()
                continue
            wanted = selectors.EVENT_READ if attempt.protocol == "UDP" else selectors.EVENT_WRITE
            selector.register(client, wanted, number)

    def _client(self, attempt: Attempt) -> socket.socket:
        family = socket.AF_INET6 if ":" in attempt.target else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if attempt.protocol == "UDP" else socket.SOCK_STREAM)
        made.setblocking(False)
        if attempt.protocol == "TCP":  # no entry of a connection that is over shall be met again
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if family == socket.AF_INET6:  # a refusal that arrives within connect() is told otherwise by the next SYN's
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        if attempt.source:
            allow_any(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                made.bind((attempt.source, next(self._ports)))
                return made
            except OSError as error:  # another program of the namespace may have the port
                if error.errno != errno.EADDRINUSE:
                    made.close()
                    raise

    def _send_inits(self, attempts: Sequence[Attempt], chosen: Sequence[int], answers: Answers, wait_s: float) -> None:
        """Every endpoint takes an INIT, so the node's own alone can refuse one."""
        senders = [self._world if attempts[number].source else self._node for number in chosen]
        targets = [(attempts[number].source, attempts[number].target, attempts[number].port) for number in chosen]
        results = send_inits(open_socket, senders, (self._node, self._world), wait_s, targets)
        for number, result in zip(chosen, results, strict=True):
            if isinstance(result, int):
                answers[number] = make_failure(OSError(result, os.strerror(result)))
            elif result is not None and result[0] == self._node and result[2] != HOST_PORT:
                answers[number] = Answer("refused")
            elif result is not None:
                answers[number] = Answer("answered", f"{result[1]}/{result[2]}", result[3])


def open_socket(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in `namespace`; non-blocking."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/run/netns/{namespace}") as handle:
            setns(handle.fileno(), CLONE_NEWNET)
        made.append(socket.socket(family, kind, protocol))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    made[0].setblocking(False)
    return made[0]


def allow_any(made: socket.socket) -> None:
    """Let it bind to addresses that its namespace has routes for alone."""
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def make_failure(error: OSError) -> Answer:
    return Answer("refused" if isinstance(error, ConnectionRefusedError) else "unreachable")


def _take(selector: selectors.BaseSelector, wait_s: float, answers: list[Answer]) -> bool:
    """Whether anything was ready within `wait_s`."""
    ready = selector.select(wait_s) if selector.get_map() else []
    for key, _ in ready:
        answer = _finish(key, selector)
        if answer is not None:
            answers[key.data] = answer
    return bool(ready)


def _finish(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> Answer | None:
    """The answer of a socket that is ready; None when there is more to come."""
    client: Any = key.fileobj
    if key.events == selectors.EVENT_WRITE:
        number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _read_queued_error(client)
        if not number:
            selector.modify(client, selectors.EVENT_READ, key.data)
            return None
        answer = make_failure(OSError(number, os.strerror(number)))
    else:
        try:
            endpoint, _, seen = client.recv(200).decode().partition(" ")
            answer = Answer("answered", endpoint, seen)
        except OSError as error:
            answer = make_failure(error)
    selector.unregister(client)
    client.close()
    return answer


def _read_queued_error(client: socket.socket) -> int:
    """The number of the error that an ICMP packet has brought; 0 when there is none."""
    try:
        _, more, _, _ = client.recvmsg(0, 500, MSG_ERRQUEUE)
    except OSError:
        return 0
    return struct.unpack_from("=I", more[0][2])[0] if more else 0
