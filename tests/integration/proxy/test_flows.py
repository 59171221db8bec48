"""UDP flows whose endpoint goes, with real datagrams: the client keeps its socket; what the kernel knows of flows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.integration.proxy.kept import POD, Compiled, Kept
from tests.integration.proxy.test_mending import WITHIN_S
from tests.integration.serviceproxy.clients import Attempt
from tests.policy_worlds import SUBJECT4, make_policy
from tests.service_objects import NODE4, make_endpoint, make_port, make_service, make_slice
from tests.unit.netpolicy.reading import compile_for, make_subject
from vk_provider.agent.proxy.explain import list_connections, read_drops
from vk_provider.netpolicy.nft import render_pod, render_table

pytestmark = pytest.mark.real

SERVICE = make_service("dns", "10.96.0.10", type="NodePort", ports=[make_port(53, "UDP", node_port=30053)])
UDP_PORTS = [{"name": "", "protocol": "UDP", "port": 8080}]
HERE, FAR = "10.1.0.1/8080", "10.1.128.1/8080"


def slice_of(*endpoints: str) -> dict:
    made = [make_endpoint(each.partition("/")[0], "n1" if each == HERE else "n2") for each in endpoints]
    return make_slice("dns", *made, ports=UDP_PORTS)


@pytest.fixture
def client(kept: Kept) -> Iterator[socket.socket]:
    kept.bed.run_node("conntrack", "-F", check=False)
    made = kept.bed.socket(kept.bed.world, socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, 15, 1)
    made.settimeout(2)
    made.bind((POD, 50123))
    yield made
    made.close()


def ask(client: socket.socket, target: str = "10.96.0.10", port: int = 53) -> str:
    client.sendto(b"?", (target, port))
    return client.recv(100).decode().partition(" ")[0]


@pytest.mark.parametrize(("target", "port"), [("10.96.0.10", 53), (NODE4, 30053)])
def test_the_next_datagram_reaches_the_endpoint_that_is_there_now(
    kept: Kept, compiled: Compiled, client: socket.socket, target: str, port: int
) -> None:
    kept.apply(compiled.whole(SERVICE, slice_of(HERE)))
    assert ask(client, target, port) == HERE
    kept.apply(compiled.change(slice_of(FAR)))
    kept.wait(lambda: _answers(client, FAR, target, port), 5)
    kept.apply(compiled.whole(slice_of(HERE)))
    kept.wait(lambda: _answers(client, HERE, target, port), 5)
    kept.restart()  # the Node's addresses are in the copy
    kept.apply(compiled.change(slice_of(FAR)))
    kept.wait(lambda: _answers(client, FAR, target, port), 5)


def test_a_flow_to_an_endpoint_that_stays_goes_on(kept: Kept, compiled: Compiled, client: socket.socket) -> None:
    kept.apply(compiled.whole(SERVICE, slice_of(HERE)))
    assert ask(client) == HERE
    kept.apply(compiled.change(slice_of(HERE, FAR)))
    kept.apply(compiled.whole())
    assert {ask(client) for _ in range(10)} == {HERE}


def test_a_flow_that_began_before_there_was_an_endpoint_finds_it(
    kept: Kept, compiled: Compiled, client: socket.socket
) -> None:
    kept.apply(compiled.whole())
    client.sendto(b"?", ("10.96.0.10", 53))  # nobody's: the entry leads to the address itself
    kept.apply(compiled.change(SERVICE, slice_of(FAR)))
    kept.wait(lambda: _answers(client, FAR), 5)


def test_a_flow_that_began_while_the_table_was_gone_finds_its_endpoint_when_it_is_mended(
    kept: Kept, compiled: Compiled, client: socket.socket
) -> None:
    kept.apply(compiled.whole(SERVICE, slice_of(FAR)))
    tracking = "table ip other { chain forward { type filter hook forward priority 0 ; ct state new accept ; } ; }\n"
    kept.bed.nft(tracking)  # connections are tracked only while some table wants it
    kept.bed.nft("delete table inet vk-services\n")
    client.sendto(b"?", ("10.96.0.10", 53))
    kept.wait(lambda: kept.count("mended") == 1, WITHIN_S)
    kept.wait(lambda: _answers(client, FAR), 5)


def _answers(client: socket.socket, endpoint: str, target: str = "10.96.0.10", port: int = 53) -> bool:
    """A datagram whose flow is forgotten before it is answered is lost, as any may be."""
    client.settimeout(0.3)
    try:
        return ask(client, target, port) == endpoint
    except OSError:
        return False


def test_the_connections_to_an_address_are_listed_with_who_answers(
    kept: Kept, compiled: Compiled, client: socket.socket
) -> None:
    kept.apply(compiled.whole(SERVICE, slice_of(HERE)))
    assert ask(client) == HERE
    (listed,) = kept._run(asyncio.to_thread(list_connections, "10.96.0.10"))
    assert listed == {
        "protocol": "UDP",
        "source": POD,
        "sourcePort": 50123,
        "port": 53,
        "endpoint": "10.1.0.1",
        "endpointPort": 8080,
        "answered": True,
    }
    assert kept._run(asyncio.to_thread(list_connections, "fd00::1")) == []
    with pytest.raises(ValueError):
        list_connections("web")


def test_what_policies_have_dropped_is_counted_for_each_direction(kept: Kept) -> None:
    assert kept._run(read_drops(kept.keeper.in_force("policy"))) == {"ingress": 0, "egress": 0}  # no table
    table = compile_for(make_subject(), [make_policy("deny", policyTypes=["Ingress", "Egress"])])
    text = render_table(table) + render_pod([SUBJECT4])
    kept.apply({"type": "table", "name": "policy", "base": "", "revision": table.revision, "text": text})
    assert kept._run(read_drops(kept.keeper.in_force("policy"))) == {"ingress": 0, "egress": 0}
    denied = Attempt(SUBJECT4, "UDP", "10.1.128.1", 8080)
    assert [answer.kind for answer in kept.bed.connect([denied] * 3, 0.3)] == ["dropped"] * 3
    drops = kept._run(read_drops(kept.keeper.in_force("policy")))
    assert drops["egress"] >= 3 and drops["ingress"] == 0
    (answer,) = kept.bed.connect([Attempt("10.1.128.1", "UDP", SUBJECT4, 8080)], 0.3)
    assert answer.kind == "dropped" and kept._run(read_drops(kept.keeper.in_force("policy")))["ingress"] >= 1
