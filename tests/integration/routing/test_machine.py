"""A Node's table on its machine: real nft in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.integration.kube.waiting import running, until
from tests.unit.routing.objects import endpoints, service
from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.nft import NftTable
from vk_provider.routing import machine as module
from vk_provider.routing.machine import MachineTable, name_table, owns_address
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.index import ServiceIndex

NAME = name_table("local", "node-1.example")


class Cluster:
    def __init__(self) -> None:
        self.index = ServiceIndex("node-1")
        self.source = ServiceTables(("192.0.2.1",))

    async def change(self, number: int, address: str) -> str:
        self.index.apply_service(service(number))
        self.index.apply_slice(endpoints(number, address))
        await self.source.publish(self.index.table())
        return self.source.revision


def make(source: ServiceTables, nft: NftTable, required: bool = True) -> MachineTable:
    quick = Backoff(0.01, 0.05)
    return MachineTable(source, nft, ("192.0.2.1",), sees_replies=True, required=required, backoff=quick)


@asynccontextmanager
async def in_force(source: ServiceTables, nft: NftTable) -> AsyncIterator[MachineTable]:
    table = make(source, nft)
    async with running(table.run()):
        yield table


async def until_revision(nft: NftTable, revision: str) -> None:
    async with asyncio.timeout(30):
        while await nft.read_revision() != revision:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


def list_rules(namespace: tuple[str, ...]) -> str:
    done = subprocess.run([*namespace, "nft", "list", "ruleset"], check=True, capture_output=True, text=True)
    return done.stdout


async def test_the_newest_table_is_in_force_under_the_nodes_name_and_gone_after_a_stop(
    namespace: tuple[str, ...],
) -> None:
    cluster, nft = Cluster(), NftTable(NAME, namespace)
    async with in_force(cluster.source, nft) as table:
        await until_revision(nft, await cluster.change(1, "10.1.0.1"))
        await until_revision(nft, await cluster.change(2, "10.1.0.2"))
        rules = list_rules(namespace)
        assert "192.0.2.1" in rules and "10.1.0.2 . 8080" in rules and "inet vk-services {" not in rules
    assert await nft.read_revision() == cluster.source.revision  # a killed provider leaves it
    await table.close()
    assert list_rules(namespace) == ""


async def test_a_table_that_an_earlier_process_has_left_is_taken_over(namespace: tuple[str, ...]) -> None:
    nft = NftTable(NAME, namespace)
    await nft.apply(f"add table inet {NAME}\nadd map inet {NAME} service-ips4 {{ type ipv4_addr : verdict ; }}\n")
    cluster = Cluster()
    async with in_force(cluster.source, nft) as table:  # whose types no text of today fits
        await until_revision(nft, await cluster.change(1, "10.1.0.1"))
    await table.close()


async def test_somebody_elses_change_is_noticed_and_mended(
    namespace: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    cluster, nft = Cluster(), NftTable(NAME, namespace)
    async with in_force(cluster.source, nft):
        revision = await cluster.change(1, "10.1.0.1")
        await until_revision(nft, revision)
        await nft.remove()
        await until_revision(nft, revision)


async def test_a_difference_that_does_not_apply_is_followed_by_the_whole_table(namespace: tuple[str, ...]) -> None:
    cluster, nft = Cluster(), NftTable(NAME, namespace)
    async with in_force(cluster.source, nft):
        await until_revision(nft, await cluster.change(1, "10.1.0.1"))
        await nft.remove()
        await until_revision(nft, await cluster.change(2, "10.1.0.1"))
        assert "10.96.0.1" in list_rules(namespace)


@pytest.mark.parametrize("is_first", [True, False])
async def test_what_one_table_knows_is_refused_at_once_beside_tables_that_do_not_know_it(
    namespace: tuple[str, ...], is_first: bool
) -> None:
    """Another Node's, which is told later, or another cluster's with the same Service network: also one that was there
    before. Of base chains of one priority the one that was made last runs first."""
    for command in (
        "link set lo up",
        "link add outside type veth peer name inside",
        "link set outside up",
        "link set inside up",
        "address add 192.0.2.1/24 dev outside",
        "route add 10.96.0.0/16 dev outside",
    ):
        await asyncio.to_thread(subprocess.run, [*namespace, "ip", *command.split()], check=True)
    behind, cluster = Cluster(), Cluster()
    for each in (behind, cluster):
        each.index.set_service_cidrs(["10.96.0.0/16"])
    cluster.index.apply_service(service(7))
    tables = [(behind, NftTable(name_table("b", "n"), namespace)), (cluster, NftTable(NAME, namespace))]
    async with AsyncExitStack() as stack:
        for each, nft in tables[:: -1 if is_first else 1]:
            await each.source.publish(each.index.table())
            await stack.enter_async_context(in_force(each.source, nft))
            await until_revision(nft, each.source.revision)
        address = service(7)["spec"]["clusterIP"]
        answers = [await asyncio.to_thread(ask, namespace, address, port) for port in (80, 81)]
        assert answers == ["refused", "refused"]
        assert await asyncio.to_thread(ask, namespace, "10.96.200.200", 80) == "nothing"


def ask(namespace: tuple[str, ...], address: str, port: int) -> str:
    """SYNs at 0 and 1 s: the first one that is refused may find its socket busy."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), timeout=2.5)"
    done = subprocess.run([*namespace, sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode, "connected"
    return "refused" if "ConnectionRefusedError" in done.stderr else "nothing"


async def test_a_table_of_other_types_is_replaced_without_a_moment_in_which_there_is_none(
    namespace: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    nft = NftTable(NAME, namespace)
    await nft.apply(f"add table inet {NAME}\nadd map inet {NAME} service-ips4 {{ type ipv4_addr : verdict ; }}\n")
    was_there: list[bool] = []
    right = NftTable.apply

    async def apply(self: NftTable, text: str) -> None:
        await right(self, text)
        was_there.append(f"table inet {NAME} {{" in list_rules(namespace))

    monkeypatch.setattr(NftTable, "apply", apply)
    cluster = Cluster()
    async with in_force(cluster.source, nft):
        await until_revision(nft, await cluster.change(1, "10.1.0.1"))
        await until(lambda: bool(was_there))  # the kernel shows a revision before the call that brought it ends
    assert all(was_there)


async def test_a_machine_that_cannot_have_it_is_left_alone_unless_it_must() -> None:
    cluster = Cluster()
    await cluster.change(1, "10.1.0.1")
    table = make(cluster.source, NftTable(NAME, ("/nonexistent/nsenter",)), required=False)
    async with running(table.run()):
        await until(lambda: cluster.source.followers == 0)
    await table.close()


def test_the_clouds_end_removes_what_a_killed_provider_has_left_and_nothing_else(namespace: tuple[str, ...]) -> None:
    names = (name_table("a", "n-1"), name_table("a", "n-2"), name_table("a-b", "n-1"), "vk-services", "other")
    for name in names:
        subprocess.run([*namespace, "nft", "add", "table", "inet", name], check=True)
    code = "from vk_provider.cloud.local.service_tables import remove; remove('a'); remove('a')"
    subprocess.run([*namespace, sys.executable, "-c", code], check=True)
    left = list_rules(namespace)
    assert [name for name in names if f"table inet {name} {{" in left] == list(names[2:])


def test_an_address_is_this_machines_or_not() -> None:
    assert owns_address("127.0.0.1") and owns_address("::1")
    assert not owns_address("192.0.2.1") and not owns_address("2001:db8::1")


def test_names_of_tables_stay_within_nfts_limit() -> None:
    long = [name_table("c" * 60, "n" * 252 + last) for last in "ab"]
    assert all(len(name) <= 255 and name.startswith(name_table("c" * 60, "")) for name in long) and long[0] != long[1]


@pytest.mark.parametrize("owner", ["team a/b", "x_y", "{ drop; }", "o" * 256])
def test_any_owner_that_a_tag_takes_makes_a_name_for_nft(namespace: tuple[str, ...], owner: str) -> None:
    name = name_table(owner, "node-1")
    subprocess.run([*namespace, "nft", "add", "table", "inet", name], check=True)
    assert f"table inet {name} {{" in list_rules(namespace)
    assert name.count("_") == name_table("local", "node-1").count("_") and name != name_table(owner + "2", "node-1")
