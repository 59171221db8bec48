"""Tables of Services from the real API server, with the provider's own rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.waiting import running, until
from tests.service_objects import make_endpoint, make_slice
from tests.unit.routing.objects import AppliedTable, message_of
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.routing.service import ServiceRouting
from vk_provider.routing.tables import ServiceTables

Json = dict[str, Any]


class Instance:
    """Follows the table of a Node as its instances do."""

    def __init__(self, source: ServiceTables) -> None:
        self.source, self.applied = source, AppliedTable()

    async def catch_up(self) -> None:
        while self.applied.revision != self.source.revision:
            self.applied.apply(message_of(await self.source.text_from(self.applied.revision)))

    async def until_service_goes_to(self, cluster_ip: str, endpoints: set[str]) -> None:
        async with asyncio.timeout(30):
            while self.endpoints(cluster_ip) != endpoints:
                await asyncio.sleep(0.01)
                await self.catch_up()

    def endpoints(self, cluster_ip: str) -> set[str] | None:
        """Of port 80; None when the Service is not there."""
        key = f"{cluster_ip} . 6 . 80"
        if key in self.applied.elements.get("no-endpoint-services4", {}):
            return set()
        if key not in self.applied.elements.get("service-ips4", {}):
            return None
        return {value for slot, value in self.applied.elements["endpoints4"].items() if slot.endswith(f" . {key}")}


@asynccontextmanager
async def following(provider: Provider) -> AsyncIterator[Instance]:
    services = ServiceEnvironment(provider.client)
    routing = ServiceRouting(provider.client, services, CollectorRegistry())
    routing.add_node("n1", ("10.255.0.1",))
    source = routing.source("n1", "")
    async with running(services.run(), routing.run()):
        await until(lambda: source.revision, "the first table")
        yield Instance(source)


async def apply(provider: Provider, namespace: str, *objects: Json) -> None:
    for item in objects:
        item["metadata"]["namespace"] = namespace
        await provider.plane.kubectl_async("apply", "-f", "-", stdin=json.dumps(item))


async def test_services_and_endpoints_of_the_cluster_are_in_the_table_and_follow_it(
    provider: Provider, namespace: str
) -> None:
    async with following(provider) as instance:
        await instance.catch_up()
        assert "service-cidrs4" in instance.applied.elements
        kubectl = provider.plane.kubectl_async
        await kubectl("create", "service", "clusterip", "web", "-n", namespace, "--tcp=80:8080")
        found = await kubectl("get", "service", "web", "-n", namespace, "-o", "json")
        cluster_ip = json.loads(found.stdout)["spec"]["clusterIP"]
        await instance.until_service_goes_to(cluster_ip, set())
        ports = [{"name": "80-8080", "protocol": "TCP", "port": 8080}]
        ends = [make_endpoint("10.1.0.1", "n1"), make_endpoint("10.1.0.2", "n2")]
        await apply(provider, namespace, make_slice("web", *ends, ports=ports))
        await instance.until_service_goes_to(cluster_ip, {"10.1.0.1 . 8080", "10.1.0.2 . 8080"})
        await apply(provider, namespace, make_slice("web", ends[0], ports=ports))
        await instance.until_service_goes_to(cluster_ip, {"10.1.0.1 . 8080"})
        await kubectl("delete", "service", "web", "-n", namespace)
        async with asyncio.timeout(30):
            while instance.endpoints(cluster_ip) is not None:
                await asyncio.sleep(0.01)
                await instance.catch_up()
    check_allowed(provider)


async def test_another_process_makes_the_same_revision_of_the_same_cluster(provider: Provider, namespace: str) -> None:
    await provider.plane.kubectl_async("create", "service", "clusterip", "web", "-n", namespace, "--tcp=80:8080")
    async with following(provider) as first, following(provider) as second:
        await until(lambda: first.source.revision == second.source.revision, "the same revision")
