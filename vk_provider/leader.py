"""The second phase of the provider: what only one provider of the same Nodes may run at a time.

It watches their pods, runs them, renews their Leases, serves their API and ends the instances that no pod claims.
"""

from __future__ import annotations

import logging
from functools import partial

from vk_provider.agentclient.grants import Grants
from vk_provider.agentclient.rotation import run_rotation
from vk_provider.aiokit.stopsteps import StopSteps
from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.bills import Bills, StoreBill, build_ledger
from vk_provider.clouds import build_boot_data, digest_configuration, registry_table
from vk_provider.explaining.explainer import NetExplainer
from vk_provider.explaining.sources import Sources
from vk_provider.foundation import Foundation
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.room import Doors, Instances
from vk_provider.instances.sweep import OrphanSweep, SweepRules
from vk_provider.inventory import Inventory, take_inventory
from vk_provider.jsontypes import Json
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kube.references import ReferenceStore
from vk_provider.kube.tokenreview import TokenReviewer
from vk_provider.kubelet.endpoints.status_page import is_loopback
from vk_provider.kubelet.provider import ClientCaSource
from vk_provider.kubelet.server import HealthServer
from vk_provider.kubelets import Answers, KubeletServers, find_client_ca
from vk_provider.networking import Networking
from vk_provider.node.controller import NodeController
from vk_provider.node.heldleases import HeldLeases
from vk_provider.node.podwatch import PodWatches
from vk_provider.node.spec import NodeSpec
from vk_provider.node_service import Nodes, NodeService, build_spec
from vk_provider.overview import Overview, Subjects
from vk_provider.peering.build import Peering
from vk_provider.podidentity.answerer import PodIdentityAnswerer
from vk_provider.pods.archive import ArchiveLimits, LogArchive
from vk_provider.pods.build import Boot, Cluster, Network, build_controller, build_room
from vk_provider.pods.controller import PodController
from vk_provider.pods.demands import PodDemands
from vk_provider.pods.executor import Logs
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.source import ControllerPods
from vk_provider.pods.witness import ApiWitness
from vk_provider.preparing.architectures import ImageArchitectures
from vk_provider.preparing.build import CloudSide, Preparing
from vk_provider.preparing.facts import PodFactFinder
from vk_provider.preparing.upkeep import PodSide
from vk_provider.registry.client import RegistryClient
from vk_provider.registry.logins import RegistryLogins
from vk_provider.settings import PodSettings, find_backend

log = logging.getLogger(__name__)

FLUSH_S = 3.0
"""For events that wait when the provider stops."""


async def build_leader(base: Foundation, supervisor: Supervisor, stops: StopSteps) -> Leader:
    """Waits for the cloud, and holds the Leases of the Nodes that exist meanwhile. Raises BadStartError."""
    settings, clients = base.settings, base.clients
    leases = HeldLeases(supervisor, clients.leases, [node.name for node in settings.nodes])
    stops.add("held Leases", leases.release)
    inventory = await take_inventory(base.cloud, leases)
    client_ca = find_client_ca(settings.kubelet.client_ca_file, clients.requests)
    pem = await client_ca.load() if client_ca is not None else ""
    return Leader(base, inventory, client_ca, pem)


class Leader:
    """Built at once, without I/O, then started.

    client_ca:     where the signers of client certificates come from; None for nowhere
    client_ca_pem: what it said
    """

    def __init__(
        self, base: Foundation, inventory: Inventory, client_ca: ClientCaSource | None, client_ca_pem: str
    ) -> None:
        settings, client = base.settings, base.clients.requests
        self._base, self._inventory, self._client_ca = base, inventory, client_ca
        self.recorder = EventRecorder(client, busy=lambda: client.pod_load.is_busy)
        access = base.access
        self._logins = RegistryLogins(access.credentials) if access.credentials is not None else None
        self._identities: PodIdentityAnswerer | None = None
        if access.pod_identity is not None:
            self._identities = PodIdentityAnswerer(access.pod_identity, TokenReviewer(base.clients.reviews))
        self.references = ReferenceStore(client, base.services, on_event=self.recorder.record, logins=self._logins)
        self.networking = Networking(settings.cloud, client, base.routing, base.registry, self.recorder)
        self.nodes = Nodes()
        self.archive = build_archive(settings.pods)
        registries = RegistryClient(registry_table(settings.registries))
        self._preparing = self._build_preparing(registries)
        self._facts = PodFactFinder(
            self.references, ImageArchitectures(registries), lambda: self.room.offerings.architectures
        )
        self._peering = Peering(settings.images, self._preparing.contents, self.references, base.registry)
        metrics = InstanceMetrics(base.registry)
        self.room = self._build_room(metrics)
        self.ledger = build_ledger(self.room, settings, base.registry, access.spot_prices)
        self.controller = self._build_controller()
        names = [node.name for node in settings.nodes]
        self.bills = Bills(self.room, self.ledger, self.controller.records, names)
        rules = SweepRules(set(names), settings.cloud.orphan_sweep_s, settings.cloud.orphan_min_age_s)
        self._sweep = OrphanSweep(self.room, ApiWitness(self.controller.records, client), metrics, rules)
        self.watches = PodWatches(client, names, self._on_pod)
        kubelet = settings.kubelet
        self._health = HealthServer(
            kubelet.healthz_address, kubelet.healthz_port, lambda: self.watches.are_synced, self._build_page()
        )
        self._add_nodes(client_ca_pem)

    def _build_room(self, metrics: InstanceMetrics) -> Instances:
        base, inventory = self._base, self._inventory
        return build_room(
            base.settings,
            Doors(
                base.cloud,
                inventory.offerings,
                inventory.runtime,
                base.connector,
                find_backend(base.settings.cloud)[0].ability,
            ),
            Boot(
                lambda token: build_boot_data(base.settings, base.identity, token),
                Grants(lambda: base.identity.master_secrets),
                digest_configuration(base.settings, base.identity, inventory.runtime),
                self._preparing.pool_images,
            ),
            metrics,
        )

    def _build_controller(self) -> PodController:
        base = self._base
        return build_controller(
            base.settings,
            Cluster(base.clients.requests, self.references, self.recorder, self.nodes.find_object),
            PodDemands(self.room, self._preparing.images, self._facts, self._peering.peers, self._identities),
            Logs(self.archive, base.connector),
            Network(self.networking.sources, self.networking.set_host_ports),
            PodMetrics(base.registry),
        )

    def _build_preparing(self, registries: RegistryClient) -> Preparing:
        base = self._base
        pods = PodSide(
            lambda: list(self.controller.records.values()),
            lambda record, kind, reason, text: self.controller.executor.events.record(record, kind, reason, text),
        )
        side = CloudSide(base.image_stores, base.left_stores, lambda: self.room.offerings.architectures)
        return Preparing(side, base.settings.images, registries, self.references, base.registry, pods)

    def _add_nodes(self, client_ca_pem: str) -> None:
        base, settings, client = self._base, self._base.settings, self._base.clients.requests
        records = self.controller.records
        explainer = NetExplainer(
            Sources(lambda: list(records.values()), self.networking, base.connector, client, settings.cluster)
        )
        pods = ControllerPods(self.controller, self.archive)
        servers = KubeletServers(
            base, pods, Answers(explainer, self.bills), lambda: self.watches.are_synced, client_ca_pem
        )
        for node in settings.nodes:
            spec = build_spec(node, settings.cloud, self._inventory.runtime)
            self.networking.add_node(node, spec.internal_ips)
            controller = self._build_node_controller(spec)
            self.nodes.add(NodeService(spec, controller, servers.build(spec), settings.kubelet, client))

    def _build_node_controller(self, spec: NodeSpec) -> NodeController:
        name, clients = spec.name, self._base.clients
        return NodeController(
            clients.requests,
            self.recorder,
            spec,
            (lambda: self.watches.find_problem(name, self.nodes.answering_since(name)),),
            on_known=partial(self.controller.on_node_known, name),
            leases=clients.leases,
        )

    def _build_page(self) -> Overview | None:
        settings, registry = self._base.settings, self._base.registry
        kubelet = settings.kubelet
        if kubelet.status_page == "off" or (kubelet.status_page != "on" and not is_loopback(kubelet.healthz_address)):
            return None
        return Overview(Subjects(self.room, self.ledger, self.controller, self.nodes, registry), settings.cloud)

    def _on_pod(self, node: str, kind: str, pod: Json) -> None:
        self.networking.on_pod(kind, pod)
        self.controller.on_pod(node, kind, pod)

    def _add_stops(self, supervisor: Supervisor, stops: StopSteps) -> None:
        """Read from below: streams -> watches of pods -> work queues and status PATCHes -> events -> all other tasks,
        the Nodes' Leases among them: a stop that takes its time must not make them NotReady."""
        stops.add("ledger", self.ledger.close, 6.0)
        stops.add("tables of this machine", self.networking.close)
        if self._logins is not None:
            stops.add("logins at registries", self._logins.close)
        stops.add("prepared images", self._preparing.close)
        stops.add("architectures of images", self._facts.close)
        stops.add("blobs between instances", self._peering.close)
        if self._identities is not None:
            stops.add("roles of pods", self._identities.close)
        stops.add("root tasks", supervisor.cancel, 10.0)
        stops.add("events", lambda: self.recorder.flush(FLUSH_S))
        stops.add("pods", self.controller.close, 10.0)
        stops.add("watches of pods", lambda: self.watches.stop(supervisor))
        stops.add("health server", self._health.stop, 3.0)
        for node in self.nodes:
            stops.add(f"kubelet API of {node.spec.name}", node.stop_server)

    async def start(self, supervisor: Supervisor, stops: StopSteps) -> None:
        """Ports -> pods listed -> adoption -> Nodes. Raises BadStartError."""
        base = self._base
        self._add_stops(supervisor, stops)
        if self._client_ca is not None:
            supervisor.start("CAs for client certificates", self._client_ca.run(self.nodes.reload_client_ca))
        supervisor.start("events", self.recorder.run())
        supervisor.start("references", self.references.run())
        self.networking.start(supervisor)
        # Before anything is changed: a second provider, started by mistake, must fail here and launch nothing.
        for node in self.nodes:
            await node.listen()
        await self._health.start()
        stops.add("notice", _announce_stop)
        await self.ledger.load()
        stores = base.image_stores or base.left_stores
        if stores is not None:  # not before: what an earlier process has counted goes on
            stores.follow_costs(StoreBill(self.room))
        await self.watches.start(supervisor)
        self.controller.adopt(self._inventory.instances)
        await self.archive.keep_only(self.controller.records)
        supervisor.start("event loop watch", base.metrics.watch_loop())
        supervisor.start("notices of the cloud", self.room.run())
        supervisor.start("offerings of the cloud", self.room.run_offerings())
        supervisor.start("orphan sweep", self._sweep.run())
        supervisor.start("ledger", self.ledger.run())
        if self.ledger.spot is not None:
            supervisor.start("spot prices", self.ledger.spot.run())
        supervisor.start("pools", self.room.filling.run())
        self._preparing.start(supervisor)
        self._peering.start(supervisor)
        ttl_s = base.settings.identity.boot_secret_ttl_s
        supervisor.start("identity rotation", run_rotation(base.identity, base.store, ttl_s))
        for node in self.nodes:
            await node.start(supervisor)


def build_archive(settings: PodSettings) -> LogArchive:
    """The logs of pods whose instances are gone."""
    limits = ArchiveLimits(
        settings.archive_bytes, settings.archive_pod_bytes, settings.archive_total_bytes, settings.archive_timeout_s
    )
    return LogArchive(settings.archive_dir, limits)


async def _announce_stop() -> None:
    log.info("stopping; instances and their pods keep running, the next start adopts them")
