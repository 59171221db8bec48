"""healthCheckNodePort, with real requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.integration.kube.waiting import running, until
from tests.service_objects import NODE, make_endpoint, make_service, make_slice
from vk_provider.routing import healthchecks as module
from vk_provider.routing.healthchecks import HealthChecks, NodeChecks
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.index import ServiceIndex

ADDRESS = "127.0.0.1"
GO_ANSWER = (
    '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n'
    '\t"localEndpoints": %d,\n\t"serviceProxyHealthy": %s\n}'
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


class Cluster:
    """One Node's Services, and the warnings about them."""

    def __init__(self, node: str = NODE) -> None:
        self.node = node
        self.index = ServiceIndex(node)
        self.source = ServiceTables((ADDRESS,))
        self.is_healthy = True

    async def give(self, *objects: dict[str, Any]) -> None:
        for item in objects:
            (self.index.apply_service if item["kind"] == "Service" else self.index.apply_slice)(item)
        await self.source.publish(self.index.table())

    @property
    def checks(self) -> NodeChecks:
        return NodeChecks(self.node, self.source, lambda: self.is_healthy)


class Served:
    """HealthChecks of Nodes at one address."""

    def __init__(self, *clusters: Cluster) -> None:
        self.warnings: list[tuple[str, dict[str, Any], str, str]] = []
        self.checks = HealthChecks(ADDRESS, lambda *warning: self.warnings.append(warning))
        for cluster in clusters:
            self.checks.add_node(cluster.checks)

    async def until_ports(self, *ports: int) -> None:
        await until(lambda: sorted(self.checks.list_ports().values()) == sorted(ports))


@contextlib.asynccontextmanager
async def serving(*clusters: Cluster) -> AsyncIterator[Served]:
    served = Served(*clusters)
    async with running(served.checks.run()):
        yield served


def service(port: int, name: str = "shop/web", **spec: Any) -> dict[str, Any]:
    wanted = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
    return make_service(name, "10.96.0.2", **(wanted | spec))


def endpoints(*addresses: str, node: str = NODE, **more: Any) -> dict[str, Any]:
    return make_slice("shop/web", *(make_endpoint(address, node, **more) for address in addresses))


async def ask(port: int, method: str = "GET", path: str = "/") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{ADDRESS}:{port}{path}", allow_redirects=False) as answer,
    ):
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.status, await answer.text(), answer.headers["X-Load-Balancing-Endpoint-Weight"]


async def until_asked(port: int, status: int) -> None:
    async with asyncio.timeout(10):
        while (await ask(port))[0] != status:
            pass


async def test_a_service_answers_200_while_the_node_has_ready_endpoints_of_it() -> None:
    cluster, port = Cluster(), free_port()
    await cluster.give(service(port), endpoints("10.1.0.1", "10.1.0.2"))
    async with serving(cluster) as served:
        await served.until_ports(port)
        for method, path in (("GET", "/"), ("POST", "/any/path?x")):
            assert await ask(port, method, path) == (200, GO_ANSWER % (2, "true"), "2")
        assert (await ask(port, "HEAD"))[:2] == (200, "")
        await cluster.give(endpoints("10.1.0.1", node="n2"))
        await until_asked(port, 503)
        assert await ask(port) == (503, GO_ANSWER % (0, "true"), "0")
        await cluster.give(endpoints("10.1.0.3"))
        await until_asked(port, 200)
        await cluster.give(endpoints("10.1.0.3", ready=False))
        await until_asked(port, 503)
        await cluster.give(endpoints("10.1.0.3"))
        await until_asked(port, 200)
        cluster.is_healthy = False
        assert await ask(port) == (503, GO_ANSWER % (1, "false"), "1")


async def test_a_port_that_is_not_asked_for_any_more_is_closed_and_a_new_one_opened() -> None:
    cluster, first, second = Cluster(), free_port(), free_port()
    await cluster.give(service(first), endpoints("10.1.0.1"))
    async with serving(cluster) as served:
        await served.until_ports(first)
        await cluster.give(service(second))
        await served.until_ports(second)
        assert (await ask(second))[0] == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(first)
        await cluster.give(service(second, externalTrafficPolicy="Cluster", healthCheckNodePort=0))
        await served.until_ports()
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(second)


async def test_a_connection_that_is_kept_ends_with_its_port() -> None:
    cluster, first, second = Cluster(), free_port(), free_port()
    await cluster.give(service(first), endpoints("10.1.0.1"))
    async with serving(cluster) as served, contextlib.AsyncExitStack() as stack:
        await served.until_ports(first)
        reader, writer = await asyncio.open_connection(ADDRESS, first)
        stack.push_async_callback(_close, writer)
        writer.write(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head and b"close" not in head.lower()
        await cluster.give(service(second))
        await served.until_ports(second)
        writer.write(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP/1.1" not in await reader.read()


async def test_nodes_at_one_address_answer_together() -> None:
    first, second, port = Cluster("n1"), Cluster("n2"), free_port()
    for cluster in (first, second):
        await cluster.give(service(port), endpoints("10.1.0.1", node="n2"))
    async with serving(first, second) as served:
        await served.until_ports(port)
        assert (await ask(port))[::2] == (200, "1")
        assert not served.warnings


async def test_a_port_that_cannot_be_had_is_an_event_of_the_service_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    cluster = Cluster()
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        await cluster.give(service(port), endpoints("10.1.0.1"))
        served = Served(cluster)
        task = asyncio.create_task(served.checks.run(), name="health checks")
        await until(lambda: len(served.warnings) >= 2)
        assert served.warnings[0] == (
            NODE,
            {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web"},
            "FailedToStartServiceHealthcheck",
            f'node {NODE} failed to start healthcheck "shop/web" on port {port}: '
            f"listen tcp {ADDRESS}:{port}: bind: address already in use",
        )
        assert served.checks.list_ports() == {}
    await served.until_ports(port)
    assert (await ask(port))[0] == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(port)


async def test_clients_that_never_ask_take_no_room_from_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, port = Cluster(), free_port()
    await cluster.give(service(port), endpoints("10.1.0.1"))
    async with serving(cluster) as served, contextlib.AsyncExitStack() as stack:
        await served.until_ports(port)
        idle = []
        for _ in range(module.LIMITS.connections + 20):
            reader, writer = await asyncio.open_connection(ADDRESS, port)
            stack.push_async_callback(_close, writer)
            idle.append(reader)
        assert (await ask(port))[0] == 200
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await idle[0].read() == b""  # the oldest is closed
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        stack.push_async_callback(_close, writer)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * (module.LIMITS.head_bytes + 1))
        async with asyncio.timeout(5):
            assert b" 431 " in await reader.readline()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
