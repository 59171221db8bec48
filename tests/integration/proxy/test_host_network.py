"""What a hostNetwork pod finds on its instance: host ports at 127.0.0.1, and the Node's address as a source."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.proxy.kept import OWN, Compiled, Kept
from tests.integration.proxy.test_mending import WITHIN_S
from tests.integration.serviceproxy.bed import Bed, remove_abandoned, run
from tests.service_objects import NODE, NODE4
from vk_provider.agent.streams import dial
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.nft import REMOVE

pytestmark = pytest.mark.real

PORT = 54323
LOOPBACK = "127.0.0.1"
ONE, TWO, THREE = ("10.1.0.1", "10.1.0.2", "10.1.128.1")
KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
OTHER_NODE, OTHER_NODE6 = "10.255.0.77", "fd00:255::77"


@pytest.fixture(scope="module")
def instance() -> Iterator[Bed]:
    remove_abandoned()
    with Bed(own4=OWN) as made:
        yield made


@pytest.fixture
def kept(instance: Bed, tmp_path: Path) -> Iterator[Kept]:
    instance.nft("flush ruleset\n")
    instance.run_node("conntrack", "-F", check=False)
    with Kept(instance, tmp_path / "tables") as made:
        yield made


def give(kept: Kept, compiled: Compiled, *ports: HostPort) -> None:
    """Each is a pod's."""
    for number, port in enumerate(ports):
        compiled.index.set_host_ports(f"u{number}", [port], (NODE4,), node=NODE)
    kept.apply(compiled.whole())


def ask(bed: Bed, source: str, target: str, port: int = PORT, protocol: str = "TCP", at: str = "") -> tuple[str, str]:
    """(who answers, whom they saw) from the instance, bound to `source` unless that is "". Raises OSError."""
    with bed.socket(at or bed.node, socket.AF_INET, KINDS[protocol]) as client:
        client.settimeout(2)
        if at:
            client.setsockopt(socket.IPPROTO_IP, 15, 1)
        if source:
            client.bind((source, 0))
        client.connect((target, port))
        client.send(b"?")
        endpoint, _, seen = client.recv(200).decode().partition(" ")
        return endpoint, seen


@contextlib.contextmanager
def listen(bed: Bed, address: str, port: int) -> Iterator[socket.socket]:
    """A server of the instance's own; the kernel accepts for it."""
    with bed.socket(bed.node, socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        server.settimeout(3)
        yield server


def meet(bed: Bed, server: socket.socket, source: str, target: str, port: int, at: str = "") -> str:
    """Connect to the server; whom it sees."""
    with bed.socket(at or bed.node, socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(3)
        if at:
            client.setsockopt(socket.IPPROTO_IP, 15, 1)
        if source:
            client.bind((source, 0))
        client.connect((target, port))
        accepted, peer = server.accept()
        with accepted:
            accepted.send(b"mine")
            assert client.recv(10) == b"mine"
    return str(peer[0])


@pytest.mark.parametrize("source", ["", LOOPBACK, NODE4])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_host_port_of_another_instance_answers_at_127_0_0_1(
    kept: Kept, compiled: Compiled, source: str, protocol: str
) -> None:
    give(kept, compiled, HostPort("", protocol, PORT, ONE, 8080))
    kept.use_host_network()
    for target in (LOOPBACK, NODE4):
        assert ask(kept.bed, source if target == NODE4 and source == NODE4 else "", target, PORT, protocol) == (
            f"{ONE}/8080",
            OWN,
        )
    assert ask(kept.bed, source, LOOPBACK, PORT, protocol) == (f"{ONE}/8080", OWN)


def test_containers_wait_until_the_instance_looks_like_the_node(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled)
    assert kept.use_host_network() == {"services": "the Node's addresses are being set up"}
    assert kept.use_host_network() == {}
    kept.apply({**compiled.whole(), "nodeAddresses": [NODE4, OTHER_NODE]})
    kept.wait(lambda: OTHER_NODE in kept.bed.run_node("ip", "rule"))
    kept.apply(compiled.whole())
    kept.wait(lambda: OTHER_NODE not in kept.bed.run_node("ip", "rule"))


def test_the_same_port_at_another_host_ip_or_protocol_is_another_pods(kept: Kept, compiled: Compiled) -> None:
    give(
        kept,
        compiled,
        HostPort(LOOPBACK, "TCP", PORT, ONE, 8080),
        HostPort(NODE4, "TCP", PORT, TWO, 8080),
        HostPort(NODE4, "UDP", PORT, THREE, 8080),
    )
    kept.use_host_network()
    assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)
    assert ask(kept.bed, "", LOOPBACK) == (f"{ONE}/8080", OWN)
    assert ask(kept.bed, "", NODE4) == (f"{TWO}/8080", OWN)
    assert ask(kept.bed, "", NODE4, protocol="UDP") == (f"{THREE}/8080", OWN)
    with pytest.raises(OSError):
        ask(kept.bed, "", LOOPBACK, protocol="UDP")


def test_a_listener_of_the_own_pod_at_127_0_0_1_keeps_its_host_port(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, OWN, PORT), HostPort("", "TCP", 8080, ONE, 8080))
    kept.use_host_network()
    with listen(kept.bed, LOOPBACK, PORT) as server:
        for source in ("", NODE4):
            assert meet(kept.bed, server, source, LOOPBACK, PORT) == (source or LOOPBACK)
    assert ask(kept.bed, "", LOOPBACK, 8080) == (f"{ONE}/8080", OWN)


def test_the_agents_streams_to_the_runtime_are_not_led_to_a_pod_with_that_host_port(
    kept: Kept, compiled: Compiled
) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, ONE, PORT))
    kept.use_host_network()

    async def connect() -> asyncio.Transport:
        return (await dial(LOOPBACK, PORT))[0]

    async def close(client: asyncio.Transport) -> None:
        client.abort()

    with listen(kept.bed, LOOPBACK, PORT) as server:
        client = kept.run(connect())
        accepted, peer = server.accept()
        accepted.close()
        kept.run(close(client))
    assert peer[0] == LOOPBACK


def test_connections_with_the_nodes_address_reach_everybody_and_come_from_the_instances_own(
    kept: Kept, compiled: Compiled
) -> None:
    with pytest.raises(OSError):
        ask(kept.bed, NODE4, ONE, 8080)
    give(kept, compiled)
    kept.use_host_network()
    for protocol in KINDS:
        assert ask(kept.bed, NODE4, ONE, 8080, protocol) == (f"{ONE}/8080", OWN)
    with listen(kept.bed, OWN, PORT) as server:
        assert meet(kept.bed, server, NODE4, OWN, PORT) == NODE4


def test_the_nodes_own_machine_still_reaches_the_instance_and_is_reached(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled)
    kept.use_host_network()
    with listen(kept.bed, OWN, PORT) as server:
        assert meet(kept.bed, server, NODE4, OWN, PORT, at=kept.bed.world) == NODE4
    # Through the instance, as to its pod.
    assert ask(kept.bed, NODE4, ONE, 8080, at=kept.bed.world) == (f"{ONE}/8080", NODE4)


def test_nobody_is_told_that_the_nodes_address_is_the_instances(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled)
    message = compiled.whole() | {"nodeAddresses": [OTHER_NODE]}
    kept.apply(message)
    kept.use_host_network()
    world = ("ip", "-n", kept.bed.world)
    run(*world, "route", "add", f"{OTHER_NODE}/32", "dev", "n0", "table", "100")
    try:
        with kept.bed.socket(kept.bed.world, socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"?", (OTHER_NODE, 9))
            client.sendto(b"?", (OWN, 9))
        time.sleep(0.5)
        neighbours = run(*world, "neigh", "show", "dev", "n0").splitlines()
        assert any(line.startswith(f"{OWN} ") and "lladdr" in line for line in neighbours), neighbours
        assert not any(line.startswith(f"{OTHER_NODE} ") and "lladdr" in line for line in neighbours), neighbours
    finally:
        run(*world, "route", "del", f"{OTHER_NODE}/32", "dev", "n0", "table", "100")


@pytest.mark.parametrize("source", ["192.168.0.1", "127.0.0.9"])
@pytest.mark.parametrize("target", [LOOPBACK, OWN])
def test_packets_with_loopback_addresses_are_not_let_in(
    kept: Kept, compiled: Compiled, source: str, target: str
) -> None:
    if (source, target) == ("192.168.0.1", OWN):
        expected = b"?"  # the bed can send
    else:
        expected = b""
    give(kept, compiled, HostPort("", "UDP", PORT, ONE, 8080))
    kept.use_host_network()
    bed = kept.bed
    run("ip", "netns", "exec", bed.world, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
    run("ip", "-n", bed.world, "route", "replace", f"{LOOPBACK}/32", "via", OWN, "dev", "n0", "table", "100")
    with (
        bed.socket(bed.node, socket.AF_INET, socket.SOCK_DGRAM) as server,
        bed.socket(bed.world, socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("0.0.0.0", 9999))
        server.settimeout(0.5)
        client.setsockopt(socket.IPPROTO_IP, 15, 1)
        client.bind((source, 0))
        client.sendto(b"?", (target, 9999))
        heard = b""
        with contextlib.suppress(TimeoutError):
            heard = server.recv(10)
        assert heard == expected


def test_an_instance_whose_pod_has_a_network_of_its_own_keeps_127_0_0_1_to_itself(
    kept: Kept, compiled: Compiled
) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, ONE, 8080))
    with listen(kept.bed, LOOPBACK, PORT) as server:
        assert meet(kept.bed, server, "", LOOPBACK, PORT) == LOOPBACK


def test_what_a_table_cannot_take_is_made_up_for_with_the_next_one(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, ONE, 8080))
    whole = compiled.whole()
    older = "".join(
        line for line in whole["text"].splitlines(True) if "loopback-" not in line and "own-number" not in line
    )
    kept.apply({**whole, "text": f"{REMOVE}{older}"})
    kept.use_host_network()
    with pytest.raises(OSError):
        ask(kept.bed, "", LOOPBACK)
    kept.apply({**whole, "text": f"{REMOVE}{older}"})
    assert kept.use_host_network() == {}
    kept.apply(whole)
    kept.wait(lambda: "127.0.0.0/8" in kept.listed())
    assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)


def test_ipv4_does_without_ipv6(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, ONE, 8080))
    both = {**compiled.whole(), "nodeAddresses": [NODE4, OTHER_NODE6]}
    disabled = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
    kept.bed.run_node("sh", "-c", f"echo 1 >{disabled}")
    try:
        kept.apply(both)
        kept.use_host_network()
        assert OTHER_NODE6 not in kept.bed.run_node("ip", "-6", "route", "show", "table", "local")
        for _ in range(2):
            assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)
            kept.apply(both)
            kept.wait(lambda: "127.0.0.0/8" in kept.listed())
    finally:
        kept.bed.run_node("sh", "-c", f"echo 0 >{disabled}")
    kept.apply(both)
    kept.wait(lambda: OTHER_NODE6 in kept.bed.run_node("ip", "-6", "route", "show", "table", "local"))
    kept.apply(compiled.whole())
    kept.wait(lambda: OTHER_NODE6 not in kept.bed.run_node("ip", "-6", "route", "show", "table", "local"))


def test_the_nodes_address_stays_when_a_new_agent_does_not_know_it(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled)
    kept.use_host_network()
    kept.restart(lose_copies=True)
    kept.use_host_network()
    assert ask(kept.bed, NODE4, ONE, 8080) == (f"{ONE}/8080", OWN)


def test_it_stays_over_restarts_of_the_agent_and_is_mended_with_the_table(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled, HostPort("", "TCP", PORT, ONE, 8080))
    kept.use_host_network()
    kept.restart()
    assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)
    kept.use_host_network()
    rules = kept.bed.run_node("ip", "rule")
    kept.bed.nft("delete table inet vk-services\n")
    kept.wait(lambda: kept.count("mended") == 1, WITHIN_S)
    assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)
    kept.apply(compiled.whole())
    kept.use_host_network()
    assert ask(kept.bed, NODE4, LOOPBACK) == (f"{ONE}/8080", OWN)
    assert kept.bed.run_node("ip", "rule") == rules


def test_a_flow_to_127_0_0_1_follows_the_pod_that_has_the_port_now(kept: Kept, compiled: Compiled) -> None:
    give(kept, compiled, HostPort("", "UDP", PORT, ONE, 8080))
    kept.use_host_network()
    with kept.bed.socket(kept.bed.node, socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.connect((LOOPBACK, PORT))

        def answers(endpoint: str) -> bool:
            try:
                client.send(b"?")
                return client.recv(100).decode().startswith(endpoint)
            except OSError:
                return False

        assert answers(ONE)
        compiled.index.set_host_ports("u0", [HostPort("", "UDP", PORT, TWO, 8080)], (NODE4,), node=NODE)
        kept.apply(compiled.change())
        kept.wait(lambda: answers(TWO), 5)
