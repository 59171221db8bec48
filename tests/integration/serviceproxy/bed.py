"""A node and the world around it in two network namespaces: every endpoint and client is an address in the second.

Whatever the world sends leaves it, even to its own addresses: so the node routes, translates and answers as a machine
between pods and the rest. A server says which address it is and where the connection came from.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.integration.serviceproxy.clients import Answer, Attempt, Clients, open_socket
from tests.integration.serviceproxy.opened import Opened
from tests.integration.serviceproxy.servers import Servers
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

_counter = itertools.count()


class Bed(Opened):
    """Use as a context manager. Leaves no namespace, process or thread behind.

    own4: the node's IPv4 address; when it is an instance's, the Node's address is one of the world's
    """

    def __init__(self, own4: str = NODE4) -> None:
        super().__init__()
        self.own4 = own4
        name = f"vksp-{os.getpid()}-{next(_counter)}"
        self.node, self.world = f"{name}-n", f"{name}-w"

    def _open(self) -> None:
        for namespace in (self.node, self.world):
            run("ip", "netns", "add", namespace)
            self._stack.callback(run, "ip", "netns", "del", namespace)
        self._wire()
        places = [(self.world, address, port) for address in (*PODS, *PODS6) for port in PORTS]
        places += [(self.node, address, HOST_PORT) for address in (self.own4, NODE6)]
        servers = self._stack.enter_context(Servers(places))
        self._clients = Clients(self.node, self.world, servers.settle)

    def nft(self, text: str) -> None:
        """Apply nft text in the node's namespace; AssertionError with nft's words if it is refused."""
        self.run_node("nft", "-f", "-", stdin=text)

    def run_node(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        return run("nsenter", f"--net=/run/netns/{self.node}", *command, stdin=stdin, check=check)

    def socket(self, namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in `namespace`; non-blocking."""
        return open_socket(namespace, family, kind, protocol)

    def connect(self, attempts: Sequence[Attempt], wait_s: float = 0.3) -> list[Answer]:
        """Try all at once; see Clients."""
        return self._clients.connect(attempts, wait_s)

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
# Every refusal is told, however many there are at once.
_ALL_REFUSALS = ("echo 0 >/proc/sys/net/ipv4/icmp_ratemask", "echo 0 >/proc/sys/net/ipv6/icmp/ratemask")
_NODE_SYSCTLS = (
    *_COMMON,
    *_ALL_REFUSALS,
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
    "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
)
_WORLD_SYSCTLS = (*_COMMON, *_ALL_REFUSALS, "echo 0 >/proc/sys/net/ipv6/conf/n0/accept_redirects")


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
