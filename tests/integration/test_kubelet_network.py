"""Between a real kubelet's machine and the instances: three hosts around a router, in namespaces of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.kubelet.config import forwarding_table

pytestmark = pytest.mark.real

HOSTS = {"node": "10.0.1", "cloud": "10.0.2", "other": "10.0.3"}
ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(0.7)
    asker.connect((sys.argv[1], 9))
    asker.send(b"?")
    try:
        asker.recv(1)
    except ConnectionRefusedError:
        print("reached")
    except TimeoutError:
        print("lost")
"""
"""Nobody listens: who is reached says so."""


def run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def router(namespace: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Forwards for everybody, until a table says otherwise."""
    with ExitStack() as stack:
        for host, network in HOSTS.items():
            name = f"vktest-{os.getpid()}-{host}"
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
            run(*namespace, "ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name)
            run(*namespace, "ip", "addr", "add", f"{network}.1/24", "dev", host)
            run(*namespace, "ip", "link", "set", host, "up")
            inside = f"addr add {network}.2/24 dev eth0\nlink set eth0 up\nroute add default via {network}.1\n"
            run("ip", "-n", name, "-batch", "-", text=inside)
        run(*namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield namespace


def ask(source: str, target: str) -> str:
    inside = ("nsenter", f"--net=/run/netns/vktest-{os.getpid()}-{source}")
    return run(*inside, sys.executable, "-c", ASK, f"{HOSTS[target]}.2").strip()


def test_the_node_and_the_instances_reach_each_other_and_nobody_else_through_this_machine(
    router: tuple[str, ...],
) -> None:
    assert ask("node", "other") == "reached"
    run(*router, "nft", "-f", "-", text=forwarding_table("ours", ("node", "cloud")))
    assert ask("node", "cloud") == ask("cloud", "node") == "reached"
    assert ask("node", "other") == ask("cloud", "other") == ask("other", "node") == "lost"
