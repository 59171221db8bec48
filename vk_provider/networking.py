"""What instances are sent of the cluster's network, and what the provider's own machine gets of it. Part of the
composition: connects `routing` with `pods`, which do not import each other.

Another table of a pod's instance is another entry of `sources`: its TableSource says what there is, everything else
(sending, confirming, reporting, waiting before the first container) is the same for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from vk_provider.agentclient.tables import TableSource
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.nft import NftTable
from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.recorder import EventRecorder
from vk_provider.pods.record import PodRecord
from vk_provider.routing.healthchecks import HealthChecks, NodeChecks
from vk_provider.routing.machine import MachineTable, name_table, owns_address
from vk_provider.routing.policies import PolicyRouting
from vk_provider.routing.service import ServiceRouting
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.table import Table
from vk_provider.settings import CloudSettings, NodeSettings, find_backend


class Networking:
    """add_node for each Node, then `start`. routing: whoever made it runs it."""

    def __init__(
        self,
        cloud: CloudSettings,
        client: KubeClient,
        routing: ServiceRouting,
        registry: CollectorRegistry,
        recorder: EventRecorder,
    ) -> None:
        self._cloud = cloud
        self._recorder = recorder
        self._routing = routing
        self._policies = PolicyRouting(client, registry)
        self._nodes: dict[str, NodeSettings] = {}
        self._machine_tables: dict[str, MachineTable] = {}
        self._health_checks: dict[str, HealthChecks] = {}

    def add_node(self, node: NodeSettings, addresses: Sequence[str]) -> None:
        """addresses: the Node's InternalIPs, one a family, the primary one first."""
        self._nodes[node.name] = node
        self._routing.add_node(node.name, addresses, node.port)
        table = self._build_machine_table(node, addresses)
        if table is not None:
            self._machine_tables[node.name] = table
            for address in addresses:
                self._add_health_checks(node, address, table)

    def sources(self, record: PodRecord) -> list[TableSource]:
        """The tables that a pod's instance is sent."""
        addresses = record.instance.pod_ips if record.instance else ()
        services = self._routing.source(record.node, self.zone_of(record))
        return [services, self._policies.source(record.uid, addresses)]

    def zone_of(self, record: PodRecord) -> str:
        """The zone that a pod's instance counts for: the Node's where that has one, the cluster's view."""
        return self._nodes[record.node].zone or (record.instance.zone if record.instance else "")

    def service_table(self, record: PodRecord) -> Table | None:
        """The newest table of Services of a pod's instance."""
        return self._routing.source(record.node, self.zone_of(record)).newest

    @property
    def node_addresses(self) -> tuple[str, ...]:
        """Of all Nodes of this provider."""
        return self._routing.compiler.node_addresses

    @property
    def policies(self) -> PolicyRouting:
        return self._policies

    def on_pod(self, kind: str, pod: Json) -> None:
        """A watch event about a pod of one of our Nodes. Never raises: others are told of it, too."""
        with contained(f"the network policies of pod {pod['metadata'].get('uid')}"):
            self._policies.on_pod(kind, pod)

    def set_host_ports(self, node: str, pod: str, ports: tuple[HostPort, ...]) -> None:
        """The host ports of a pod, by UID: they are reached at the Node's address."""
        self._routing.compiler.set_host_ports(node, pod, ports)

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start("network policies", self._policies.run())
        for node, table in self._machine_tables.items():
            supervisor.start(f"Services of {node} on this machine", table.run())
        for address, checks in self._health_checks.items():
            supervisor.start(f"health checks of Services at {address}", checks.run())

    async def close(self) -> None:
        """After the root tasks were cancelled."""
        await asyncio.gather(*(table.close() for table in self._machine_tables.values()))

    def _add_health_checks(self, node: NodeSettings, address: str, table: MachineTable) -> None:
        if not owns_address(address):
            return
        checks = self._health_checks.get(address)
        if checks is None:
            checks = self._health_checks[address] = HealthChecks(address, self._warn)
        source = self._routing.source(node.name, node.zone)
        checks.add_node(NodeChecks(node.name, source, lambda: table.is_healthy))

    def _warn(self, node: str, involved: Json, reason: EventReason, message: str) -> None:
        self._recorder.record(involved, "Warning", reason, message, component="kube-proxy", host=node)

    def _build_machine_table(self, node: NodeSettings, addresses: Sequence[str]) -> MachineTable | None:
        """The table of a Node in the network namespace of the provider; None where there is to be none
        (settings.NodeSettings.services_here)."""
        if node.services_here == "off":
            return None
        backend, own = find_backend(self._cloud)
        if node.services_here == "auto" and not (backend.has_machines and owns_address(addresses[0])):
            return None
        gateway = backend.gateway_name(own)
        return MachineTable(
            self._routing.source(node.name, node.zone),
            NftTable(name_table(gateway or self._cloud.owner, node.name)),
            addresses,
            sees_replies=bool(gateway),
            required=node.services_here == "on",
        )
