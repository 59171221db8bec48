"""UDP flows through a Node's table on its machine, with real datagrams: the client keeps its socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.integration.kube.waiting import running
from tests.integration.serviceproxy.bed import Bed, remove_abandoned
from tests.service_objects import NODE, NODE4, make_endpoint, make_port, make_service, make_slice
from vk_provider.aiokit.nft import NftTable
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns
from vk_provider.conntrack import forget_stale
from vk_provider.routing.machine import MachineTable, name_table
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.index import ServiceIndex

pytestmark = pytest.mark.real

UDP_PORTS = [{"name": "", "protocol": "UDP", "port": 8080}]
SERVICE = make_service("dns", "10.96.0.10", type="NodePort", ports=[make_port(53, "UDP", node_port=30053)])
OUTSIDE = "192.168.0.1"
HOST_PORT = 5353


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    remove_abandoned()
    with Bed() as made:
        yield made


def forget_in(bed: Bed, frontends: Sequence[UdpFrontend], addresses: Sequence[str]) -> int:
    counts: list[int] = []

    def forget() -> None:
        with open(f"/run/netns/{bed.node}") as handle:
            setns(handle.fileno(), CLONE_NEWNET)
        counts.append(forget_stale(frontends, addresses))

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join()
    return counts[0]


def slice_of(*addresses: str) -> dict:
    return make_slice("dns", *(make_endpoint(address) for address in addresses), ports=UDP_PORTS)


def ask(client: socket.socket, target: tuple[str, int]) -> str:
    """Who answers; "" for nobody."""
    try:
        client.sendto(b"?", target)
        return client.recv(100).decode().partition("/")[0]
    except OSError:
        return ""


async def until_answers(client: socket.socket, target: tuple[str, int], endpoint: str) -> None:
    async with asyncio.timeout(30):
        while (who := await asyncio.to_thread(ask, client, target)) != endpoint:
            assert who in ("", "10.1.0.1"), who


async def test_the_next_datagram_reaches_the_endpoint_that_is_there_now(bed: Bed) -> None:
    index, source = ServiceIndex(NODE, (NODE4,)), ServiceTables((NODE4,))
    nft = NftTable(name_table("local", NODE), ("nsenter", f"--net=/run/netns/{bed.node}"))
    table = MachineTable(
        source, nft, (NODE4,), sees_replies=True, required=True, forget_flows=lambda *what: forget_in(bed, *what)
    )

    async def give(address: str) -> None:
        index.apply_slice(slice_of(address))
        index.set_host_ports("u1", [HostPort("", "UDP", HOST_PORT, address, 8080)], (NODE4,))
        await source.publish(index.table())

    index.apply_service(SERVICE)
    targets = (("10.96.0.10", 53), (NODE4, 30053), (NODE4, HOST_PORT))
    clients = []
    for number, _ in enumerate(targets):
        client = bed.socket(bed.world, socket.AF_INET, socket.SOCK_DGRAM)
        client.setsockopt(socket.IPPROTO_IP, 15, 1)
        client.settimeout(0.3)
        client.bind((OUTSIDE, 50200 + number))
        clients.append(client)
    await give("10.1.0.1")
    async with running(table.run()):
        for client, target in zip(clients, targets, strict=True):
            await until_answers(client, target, "10.1.0.1")
        await give("10.1.128.1")
        for client, target in zip(clients, targets, strict=True):
            await until_answers(client, target, "10.1.128.1")
    for client in clients:
        client.close()
    await table.close()
