"""The room as a whole: informers, compiler and the sources that sessions follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, ReflectorOptions, StoreOptions, key_by_name
from vk_provider.kube.paths import ENDPOINT_SLICES, SERVICE_CIDRS
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.routing.compiler import TableCompiler
from vk_provider.routing.objects import networks_of, read_listed_slice, trim_cidr, trim_slice
from vk_provider.routing.tables import ServiceTables

log = logging.getLogger(__name__)

CIDRS_RETRY_S = 300.0
"""A cluster before 1.33 has no ServiceCIDRs, and does not get them while it runs."""


class ServiceRouting:
    """Tables of Services for the Nodes that were added. `run` must be running, and so must `services`.

    services: their informer, which serves the environment variables of pods, too
    """

    def __init__(self, client: KubeClient, services: ServiceEnvironment, registry: CollectorRegistry) -> None:
        revisions = Counter(
            "vk_service_table_revisions_total", "Revisions of the tables of Services", registry=registry
        )
        self.compiler = TableCompiler(revisions.inc)
        self._services = services
        services.follow(self.compiler.on_service)
        self._slices = Informer(
            client,
            ENDPOINT_SLICES,
            None,
            self.compiler.on_slice,
            store=StoreOptions(keep=False, trim=trim_slice, key=key_by_name, read=read_listed_slice),
        )
        self._cidrs_settled = asyncio.Event()
        self._cidrs = Informer(
            client,
            SERVICE_CIDRS,
            None,
            self._cidr_changed,
            store=StoreOptions(trim=trim_cidr, key=key_by_name),
            reflector=ReflectorOptions(backoff=Backoff(1.0, CIDRS_RETRY_S, jitter=0.3), on_error=self._cidrs_failed),
        )

    def add_node(self, node: str, addresses: Iterable[str], kubelet_port: int = 0) -> None:
        """See TableCompiler.add_node."""
        self.compiler.add_node(node, addresses, kubelet_port)

    def source(self, node: str, zone: str) -> ServiceTables:
        """The table for the instances of a Node in one zone ("" when it is not known)."""
        return self.compiler.source(node, zone)

    async def run(self) -> None:
        """Follow and compile until cancelled; raises when one of the tasks ended unexpectedly."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._slices.run(), name="endpoint slices")
            group.create_task(self._cidrs.run(), name="service CIDRs")
            group.create_task(self.compiler.run(), name="tables of Services")
            group.create_task(self._wait_cidrs(), name="first service CIDRs")
            await self._services.synced.wait()
            await self._slices.synced.wait()
            await self._cidrs_settled.wait()
            self.compiler.complete()

    def _cidr_changed(self, _kind: str, _item: Json) -> None:
        self.compiler.set_cidrs(networks_of(self._cidrs.items.values()))

    def _cidrs_failed(self, error: KubeApiError) -> None:
        """Without them only the answer at addresses that no Service has is another one."""
        if error.is_not_found or error.is_forbidden:
            self._cidrs_settled.set()

    async def _wait_cidrs(self) -> None:
        await self._cidrs.synced.wait()
        self._cidrs_settled.set()
