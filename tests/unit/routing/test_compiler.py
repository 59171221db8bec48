"""Changes become tables: not before everything is known, together, in short turns."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator

import pytest

from tests.unit.routing.objects import AppliedTable, endpoints, message_of, service
from tests.unit.sleeps import record_sleeps
from vk_provider.routing import compiler as module
from vk_provider.routing.compiler import TableCompiler
from vk_provider.routing.objects import networks_of, trim_cidr, trim_slice
from vk_provider.serviceproxy.endpoint import parse_slice
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.service import parse_service


class Cluster:
    """Services and slices that a compiler is told of."""

    def __init__(self, count: int, *nodes: str) -> None:
        self.made: list[int] = []
        self.compiler = TableCompiler(lambda: self.made.append(1))
        for node in nodes or ("n1",):
            self.compiler.add_node(node, ("10.255.0.1",))
        for number in range(count):
            self.compiler.on_service("ADDED", service(number))
            self.compiler.on_slice("ADDED", endpoints(number, "10.1.0.1"))


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    yield Cluster(3)


async def test_there_is_no_table_before_everything_was_listed(cluster: Cluster) -> None:
    source = cluster.compiler.source("n1", "a")
    await cluster.compiler.compile()
    assert source.revision == ""
    cluster.compiler.complete()
    await cluster.compiler.compile()
    index = ServiceIndex("n1", ("10.255.0.1",))
    for number in range(3):
        index.apply_service(service(number))
        index.apply_slice(endpoints(number, "10.1.0.1"))
    assert source.revision == index.table("a").revision


async def test_an_empty_cluster_has_a_table_too() -> None:
    cluster = Cluster(0)
    source = cluster.compiler.source("n1", "")
    cluster.compiler.complete()
    await cluster.compiler.compile()
    assert source.revision and (await source.text_from("")) is not None


async def test_a_zone_that_is_asked_for_later_gets_its_table_too(cluster: Cluster) -> None:
    cluster.compiler.complete()
    await cluster.compiler.compile()
    source = cluster.compiler.source("n1", "b")
    assert cluster.compiler.source("n1", "b") is source
    assert cluster.compiler._changed.is_set()
    await cluster.compiler.compile()
    assert source.revision


async def test_what_comes_before_the_nodes_are_known_is_in_their_tables() -> None:
    compiler = TableCompiler()
    compiler.on_service("ADDED", service(1))
    compiler.on_slice("ADDED", endpoints(1, "10.1.0.1"))
    compiler.set_cidrs(["10.96.0.0/16"])
    compiler.complete()
    await compiler.compile()
    for node in ("n1", "n2"):
        compiler.add_node(node, ("10.255.0.1",))
    assert compiler._changed.is_set()
    for node in ("n1", "n2"):
        source = compiler.source(node, "")
        await compiler.compile()
        assert source.newest is not None and source.newest.service_cidrs
        assert [element.value for element in source.newest.elements() if element.container == "endpoints4"]


async def test_local_endpoints_are_those_of_each_node() -> None:
    cluster = Cluster(1, "n1", "n2")
    local = copy.deepcopy(service(0))
    local["spec"]["internalTrafficPolicy"] = "Local"
    cluster.compiler.on_service("MODIFIED", local)
    sources = [cluster.compiler.source(node, "") for node in ("n1", "n2")]
    cluster.compiler.complete()
    await cluster.compiler.compile()
    applied = [AppliedTable(), AppliedTable()]
    for table, source in zip(applied, sources, strict=True):
        table.apply(message_of(await source.text_from("")))
    assert ["endpoints4" in table.elements for table in applied] == [True, False]


async def test_what_was_deleted_is_gone_and_only_changes_make_a_table(cluster: Cluster) -> None:
    source = cluster.compiler.source("n1", "")
    cluster.compiler.complete()
    await cluster.compiler.compile()
    first = source.revision
    cluster.compiler.on_slice("DELETED", {"metadata": {"namespace": "default", "name": "s1-x"}})
    cluster.compiler.on_service("DELETED", {"metadata": {"namespace": "default", "name": "s2"}})
    await cluster.compiler.compile()
    assert source.revision != first and len(cluster.made) == 2
    cluster.compiler.on_slice("ADDED", endpoints(1, "10.1.0.1"))
    cluster.compiler.on_service("ADDED", service(2))
    await cluster.compiler.compile()
    assert source.revision == first and len(cluster.made) == 3
    cluster.compiler.on_service("MODIFIED", service(2))
    await cluster.compiler.compile()
    assert len(cluster.made) == 3


async def test_instances_answer_node_ports_and_host_ports_at_the_addresses_of_all_nodes() -> None:
    compiler = TableCompiler()
    compiler.add_node("n1", ("10.255.0.1",))
    source = compiler.source("n1", "")
    compiler.add_node("n2", ("10.255.0.2",))
    compiler.set_host_ports("n2", "u1", (HostPort("", "TCP", 8080, "10.1.0.1", 80),))
    compiler.complete()
    await compiler.compile()
    message = message_of(await source.text_from(""))
    assert message["nodeAddresses"] == ["10.255.0.1", "10.255.0.2"]
    applied = AppliedTable()
    applied.apply(message)
    assert applied.elements["endpoints4"] == {"0:0 . 10.255.0.2 . 6 . 8080": "10.1.0.1 . 80"}


async def test_service_cidrs_are_in_the_table(cluster: Cluster) -> None:
    source = cluster.compiler.source("n1", "")
    cluster.compiler.set_cidrs(["10.96.0.0/16"])
    cluster.compiler.complete()
    await cluster.compiler.compile()
    applied = AppliedTable()
    applied.apply(message_of(await source.text_from("")))
    assert applied.elements["service-cidrs4"] == {"10.96.0.0/16": ""}


async def test_a_large_cluster_is_compiled_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.0)
    cluster, turns = Cluster(200), 0
    cluster.compiler.source("n1", "")
    cluster.compiler.complete()
    compiling = asyncio.create_task(cluster.compiler.compile())
    while not compiling.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 200


async def test_one_object_that_cannot_be_handled_takes_no_other_with_it(cluster: Cluster) -> None:
    source = cluster.compiler.source("n1", "")
    cluster.compiler.on_service("ADDED", {**service(3), "spec": "odd"})
    cluster.compiler.on_slice("ADDED", {**endpoints(3, "10.1.0.1"), "ports": ["odd"]})
    cluster.compiler.on_service("ADDED", service(4))
    cluster.compiler.complete()
    await cluster.compiler.compile()
    assert source.newest is not None
    assert set(source.newest.fragments) == {"default/s0", "default/s1", "default/s2", "default/s4"}


async def test_what_comes_while_others_are_taken_over_is_in_the_first_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.0)
    cluster = Cluster(20)
    source = cluster.compiler.source("n1", "")
    cluster.compiler.set_cidrs(["10.96.0.0/16"])
    compiling = asyncio.create_task(cluster.compiler.compile())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not compiling.done()
    cluster.compiler.on_service("ADDED", service(20))  # the last page of the list
    cluster.compiler.set_cidrs(["10.96.0.0/16", "10.97.0.0/16"])
    cluster.compiler.complete()
    await compiling
    assert source.newest is None
    await cluster.compiler.compile()
    assert source.newest is not None and len(source.newest.fragments) == 21
    assert source.newest.service_cidrs == ("10.96.0.0/16", "10.97.0.0/16")


async def test_the_root_task_makes_one_table_of_changes_that_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    real_sleep = asyncio.sleep
    slept = record_sleeps(monkeypatch, module)
    cluster = Cluster(3)
    source = cluster.compiler.source("n1", "")
    for _ in range(500):
        source.follow(lambda: None)
    cluster.compiler.complete()
    running = asyncio.create_task(cluster.compiler.run())
    while len(cluster.made) < 1:
        await real_sleep(0)
    cluster.compiler.on_slice("MODIFIED", endpoints(1, "10.1.0.2"))
    cluster.compiler.on_slice("MODIFIED", endpoints(2, "10.1.0.2"))
    while len(cluster.made) < 2:
        await real_sleep(0)
    for _ in range(10):
        await real_sleep(0)
    running.cancel()
    assert len(cluster.made) == 2
    assert max(slept) == pytest.approx(0.5 - module.SETTLE_S)  # 500 instances are told twice a second at most


def test_trimmed_slices_mean_the_same() -> None:
    full = endpoints(1, "10.1.0.1", "10.1.0.2", zones=("a",))
    full["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": [{}], "annotations": {"a": "b"}}
    full["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "x"
    full["endpoints"][0] |= {"targetRef": {"kind": "Pod", "name": "p"}, "zone": "a"}
    parsed = parse_slice(copy.deepcopy(full))
    trimmed = trim_slice(full)
    assert parsed is not None and parse_slice(trimmed) == parsed
    assert "targetRef" not in trimmed["endpoints"][0] and "annotations" not in trimmed["metadata"]


def test_a_headless_services_slice_is_kept_without_its_endpoints() -> None:
    full = endpoints(1, "10.1.0.1")
    full["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    trimmed = trim_slice(full)
    assert parse_slice(trimmed) is None and "endpoints" not in trimmed


def test_networks_of_all_service_cidrs() -> None:
    items = [
        {"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}},
        {"metadata": {"name": "b"}},
    ]
    assert networks_of(trim_cidr(item) for item in items) == ["10.96.0.0/16", "fd00::/112"]
    assert parse_service(service(1)) is not None


async def test_the_kubelet_port_of_each_node_stays_the_providers_in_all_tables() -> None:
    compiler = TableCompiler()
    compiler.add_node("n1", ("10.255.0.1",), 10250)
    source = compiler.source("n1", "")
    compiler.add_node("n2", ("10.255.0.2",), 10251)
    ports = tuple(HostPort("", "TCP", port, "10.1.0.1", 80) for port in (10250, 10251))
    compiler.set_host_ports("n2", "u1", ports)
    compiler.complete()
    await compiler.compile()
    applied = AppliedTable()
    applied.apply(message_of(await source.text_from("")))
    assert applied.elements["endpoints4"] == {"0:0 . 10.255.0.2 . 6 . 10250": "10.1.0.1 . 80"}
