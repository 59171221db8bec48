"""A node and the world around it in two network namespaces: every endpoint and client is an address in the second.

Whatever the world sends leaves it, even to its own addresses: so the node routes, translates and answers as a machine
between pods and the rest. A server says which address it is and where the connection came from.
"""

from __future__ import annotations

import itertools
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.serviceproxy.opened import Opened
from tests.integration.serviceproxy.sctp import send_inits
from tests.service_objects import (
    ELSEWHERE,
    HOST_PORT,
    LOCAL_PODS,
    LOCAL_PODS6,
    NODE4,
    NODE6,
    OUTSIDE,
    OUTSIDE6,
    PODS,
    PODS6,
    PORTS,
    REMOTE_PODS,
    REMOTE_PODS6,
)
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns

IP_FREEBIND, IPV6_FREEBIND = 15, 78
_counter = itertools.count()


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


class Bed(Opened):
    """Use as a context manager. Leaves no namespace, process or thread behind.

    own4: the node's IPv4 address; when it is an instance's, the Node's address is one of the world's
    """

    def __init__(self, own4: str = NODE4) -> None:
        super().__init__()
        self.own4 = own4
        name = f"vksp-{os.getpid()}-{next(_counter)}"
        self.node, self.world = f"{name}-n", f"{name}-w"
        self._ports = itertools.cycle(range(20000, 60000))

    def _open(self) -> None:
        for namespace in (self.node, self.world):
            run("ip", "netns", "add", namespace)
            self._stack.callback(run, "ip", "netns", "del", namespace)
        self._wire()
        self._serve()

    def nft(self, text: str) -> None:
        """Apply nft text in the node's namespace; AssertionError with nft's words if it is refused."""
        self.run_node("nft", "-f", "-", stdin=text)

    def run_node(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        return run("nsenter", f"--net=/run/netns/{self.node}", *command, stdin=stdin, check=check)

    def socket(self, namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
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

    def connect(self, attempts: Sequence[Attempt], wait_s: float = 0.3) -> list[Answer]:
        """Try all at once. What has no answer after `wait_s` counts as dropped."""
        inits = [number for number, attempt in enumerate(attempts) if attempt.protocol == "SCTP"]
        if inits:
            answers = iter(self._send_inits([attempts[number] for number in inits], wait_s))
            others = iter(self.connect([attempt for attempt in attempts if attempt.protocol != "SCTP"], wait_s))
            return [next(answers if attempt.protocol == "SCTP" else others) for attempt in attempts]
        return self._connect(attempts, wait_s)

    def _send_inits(self, attempts: Sequence[Attempt], wait_s: float) -> list[Answer]:
        """Every endpoint takes an INIT, so the node's own alone can refuse one."""
        senders = [self.world if attempt.source else self.node for attempt in attempts]
        targets = [(attempt.source, attempt.target, attempt.port) for attempt in attempts]
        results = send_inits(self.socket, senders, (self.node, self.world), wait_s, targets)
        answers = []
        for result in results:
            if result is None:
                answers.append(Answer("dropped"))
            elif isinstance(result, int):
                answers.append(_failure(OSError(result, os.strerror(result))))
            elif result[0] == self.node and result[2] != HOST_PORT:
                answers.append(Answer("refused"))
            else:
                answers.append(Answer("answered", f"{result[1]}/{result[2]}", result[3]))
        return answers

    def _connect(self, attempts: Sequence[Attempt], wait_s: float) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(attempts)
        with selectors.DefaultSelector() as selector:
            self._begin(attempts, selector, answers)
            deadline = time.monotonic() + wait_s
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    answer = _finish(key.fileobj, selector)
                    if answer is not None:
                        answers[key.data] = answer
            for key in list(selector.get_map().values()):
                key.fileobj.close()
        return [answer or Answer("dropped") for answer in answers]

    def _begin(
        self, attempts: Sequence[Attempt], selector: selectors.BaseSelector, answers: list[Answer | None]
    ) -> None:
        """Sockets are made by one thread for each namespace: a thread joins a namespace as a whole."""

        def make(namespace: str, chosen: list[int]) -> None:
            with open(f"/run/netns/{namespace}") as handle:
                setns(handle.fileno(), CLONE_NEWNET)
            for number in chosen:
                made[number] = self._client(attempts[number])

        made: dict[int, socket.socket] = {}
        for namespace, own in ((self.node, True), (self.world, False)):
            chosen = [number for number, attempt in enumerate(attempts) if (not attempt.source) == own]
            thread = threading.Thread(target=make, args=(namespace, chosen))
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
                answers[number] = _failure(error)
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
        if attempt.source:
            _allow_any(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((attempt.source, next(self._ports)))
        return made

    def _wire(self) -> None:
        """One link; the world's own addresses are looked up for what arrives alone, so that all it sends leaves it."""
        run(*f"ip link add w0 netns {self.node} type veth peer name n0 netns {self.world}".split())
        for namespace, batches in ((self.node, _NODE_LINKS), (self.world, _WORLD_LINKS)):
            for version, batch in batches.items():
                run("ip", version, "-n", namespace, "-batch", "-", stdin=batch.replace(NODE4, self.own4))
        if self.own4 != NODE4:
            run("ip", "-n", self.world, "route", "add", "local", NODE4, "dev", "lo")
        for namespace, settings in ((self.node, _NODE_SYSCTLS), (self.world, _WORLD_SYSCTLS)):
            run("ip", "netns", "exec", namespace, "sh", "-c", "\n".join(settings))

    def _serve(self) -> None:
        selector = selectors.DefaultSelector()
        places = [(self.world, address, port) for address in (*PODS, *PODS6) for port in PORTS]
        places += [(self.node, address, HOST_PORT) for address in (self.own4, NODE6)]
        for namespace, address, port in places:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                server = self.socket(namespace, family, kind)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _allow_any(server)
                server.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    server.listen(1024)
                selector.register(server, selectors.EVENT_READ, f"{address}/{port}")
        stop, wake = os.pipe()
        selector.register(stop, selectors.EVENT_READ, None)
        thread = threading.Thread(target=_serve_all, args=(selector,), name="endpoints")
        thread.start()

        def end() -> None:
            os.close(wake)
            thread.join()
            os.close(stop)

        self._stack.callback(end)


_NODE_LINKS = {
    "-4": f"""link set lo up
link set w0 up
addr add {NODE4}/32 dev w0
route add 10.255.0.2/32 dev w0
route add default via 10.255.0.2 dev w0
""",
    "-6": f"""addr add {NODE6}/128 dev w0 nodad
route add fd00:255::2/128 dev w0
route add default via fd00:255::2 dev w0
""",
}
_OWN_TABLE = """rule add pref 10 iif n0 lookup local
rule add pref 20 lookup 100
rule del pref 0
"""
_WORLD_LINKS = {
    "-4": f"""link set lo up
link set n0 up
addr add 10.255.0.2/32 dev n0
{_OWN_TABLE}route add {NODE4}/32 dev n0 table 100
route add default via {NODE4} dev n0 table 100
"""
    + "".join(f"route add local {net} dev lo\n" for net in (LOCAL_PODS, REMOTE_PODS, OUTSIDE, ELSEWHERE)),
    "-6": f"""addr add fd00:255::2/128 dev n0 nodad
{_OWN_TABLE}route add {NODE6}/128 dev n0 table 100
route add default via {NODE6} dev n0 table 100
"""
    + "".join(f"route add local {net} dev lo\n" for net in (LOCAL_PODS6, REMOTE_PODS6, OUTSIDE6)),
}
_COMMON = (
    "for d in all default lo w0 n0; do c=/proc/sys/net/ipv4/conf/$d; [ -d $c ] || continue; "
    "echo 0 >$c/rp_filter; echo 1 >$c/accept_local; echo 0 >$c/send_redirects; echo 0 >$c/accept_redirects; done",
)
_NODE_SYSCTLS = (
    *_COMMON,
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
    "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
    # Every refusal is told: many connections of one client are tried at once.
    "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit",
    "echo 0 >/proc/sys/net/ipv6/icmp/ratelimit",
)
_WORLD_SYSCTLS = (*_COMMON, "echo 0 >/proc/sys/net/ipv6/conf/n0/accept_redirects")


def run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def remove_abandoned() -> None:
    """Namespaces of a run that was killed."""
    for path in Path("/run/netns").glob("vksp-*"):
        if not Path(f"/proc/{path.name.split('-')[1]}").exists():
            run("ip", "netns", "del", path.name)


def kinds(answers: Iterable[Answer]) -> set[str]:
    return {answer.kind for answer in answers}


def _allow_any(made: socket.socket) -> None:
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def _failure(error: OSError) -> Answer:
    return Answer("refused" if isinstance(error, ConnectionRefusedError) else "unreachable")


def _finish(client: socket.socket, selector: selectors.BaseSelector) -> Answer | None:
    """The answer of a socket that is ready; None when there is more to come."""
    key = selector.get_key(client)
    if key.events == selectors.EVENT_WRITE:
        number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not number:
            selector.modify(client, selectors.EVENT_READ, key.data)
            return None
        answer = _failure(OSError(number, os.strerror(number)))
    else:
        try:
            endpoint, _, seen = client.recv(200).decode().partition(" ")
            answer = Answer("answered", endpoint, seen)
        except OSError as error:
            answer = _failure(error)
    selector.unregister(client)
    client.close()
    return answer


def _serve_all(selector: selectors.BaseSelector) -> None:
    """Answers every connection and datagram with the endpoint's name and the peer's address."""
    while True:
        for key, _ in selector.select():
            if key.data is None:
                for registered in list(selector.get_map().values()):
                    if registered.data is not None:
                        registered.fileobj.close()
                selector.close()
                return
            server: socket.socket = key.fileobj
            try:
                if server.type == socket.SOCK_DGRAM:
                    _, peer = server.recvfrom(100)
                    server.sendto(f"{key.data} {peer[0]}".encode(), peer)
                else:
                    connection, peer = server.accept()
                    connection.send(f"{key.data} {peer[0]}".encode())
                    connection.close()
            except OSError:
                continue  # the client has gone
