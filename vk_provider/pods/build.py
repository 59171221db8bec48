"""Builds the pod controller with its executor, and the room of the instances below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vk_provider.instances.launches import LaunchRules
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.poolrules import GrantSigner, PoolRules
from vk_provider.instances.poolstores import NoPoolImages, PoolImages
from vk_provider.instances.request import BootData
from vk_provider.instances.room import Doors, Instances
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kube.references import ReferenceStore
from vk_provider.podmodel.quantity import ceil_int, milli
from vk_provider.pods.admission import features_of, parse_daemonsets
from vk_provider.pods.agents import AgentSide
from vk_provider.pods.controller import PodController
from vk_provider.pods.demands import PodDemands
from vk_provider.pods.events import PodEvents
from vk_provider.pods.executor import ApiServer, Logs, PodExecutor
from vk_provider.pods.gate import AdmissionGate
from vk_provider.pods.hostports import HostPortWatch, OnHostPorts
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.pools import build_pools
from vk_provider.pods.record import PodRecord
from vk_provider.pods.resolution import ReferenceResolver
from vk_provider.pods.sending import PodSender
from vk_provider.pods.status_publisher import StatusPublisher
from vk_provider.pods.tables import PodTables, Sources
from vk_provider.settings import Settings, find_backend
from vk_provider.sizing.preferences import build_preferences


@dataclass(frozen=True, slots=True)
class Cluster:
    """The API server, what is read from it and told to it. nodes: the Node objects by name, None until read."""

    client: KubeClient
    references: ReferenceStore
    recorder: EventRecorder
    nodes: Callable[[str], Json | None]


@dataclass(frozen=True, slots=True)
class Network:
    """tables: those that the instance of a pod is sent. on_host_ports: told of the host ports of pods."""

    tables: Sources
    on_host_ports: OnHostPorts


@dataclass(frozen=True, slots=True)
class Boot:
    """What instances are launched with, and proved by. configuration, images: see instances.poolrules.PoolRules."""

    data: BootData
    grants: GrantSigner
    configuration: str = ""
    images: PoolImages = field(default_factory=NoPoolImages)


def build_room(settings: Settings, doors: Doors, boot: Boot, metrics: InstanceMetrics) -> Instances:
    """Our instances, of which none is known before the controller's `adopt`. Raises BadStartError for a pool that the
    cloud has no offering for."""
    backend, own = find_backend(settings.cloud)
    root_volumes = backend.root_volumes(own)
    preferences = {
        node.name: replace(
            build_preferences(node.zone, node.architecture, doors.offerings),
            capacity_types=settings.pods.capacity_types,
            default_cpu_milli=milli(settings.pods.default_cpu),
            default_memory_bytes=ceil_int(settings.pods.default_memory),
            max_disk_bytes=ceil_int(settings.pods.max_root_disk),
            launch_options=doors.ability.launch_options,
            pod_options=frozenset(settings.pods.launch_options),
            root_volumes=root_volumes,
        )
        for node in settings.nodes
    }
    shared_host_paths = {node.name: node.shared_host_paths for node in settings.nodes}
    rules = LaunchRules(
        settings.cloud.owner, boot.data, preferences, shared_host_paths, settings.budget, doors.ability.gather_s
    )
    specs = build_pools(settings, doors.offerings, preferences)
    pools = PoolRules(boot.grants, specs, boot.configuration, boot.images, doors.ability.boots_soon)
    return Instances(doors, rules, pools, metrics, settings.cloud.boot_timeout_s)


def build_controller(
    settings: Settings,
    cluster: Cluster,
    demands: PodDemands,
    logs: Logs,
    network: Network,
    metrics: PodMetrics,
) -> PodController:
    """The controller, not started: it waits for `adopt`."""
    room = demands.room
    events = PodEvents(cluster.recorder)
    shared_host_paths = {node.name: node.shared_host_paths for node in settings.nodes}

    def node_facts(record: PodRecord) -> Json:
        shared = shared_host_paths.get(record.node)
        return {
            "name": record.node,
            "allocatable": room.allocatable_of(record.instance) if record.instance is not None else {},
            "clusterDNS": list(settings.cluster.dns),
            "clusterDomain": settings.cluster.domain,
            **({"sharedHostPaths": list(shared)} if shared else {}),
            "tables": tables.names(record),
            **({"tellImages": True} if demands.images.tells else {}),
            "tellNotices": True,
            **({"podIdentity": True} if demands.identities.is_on else {}),
            **({"grant": room.sign_grant(record.owned, record.uid)} if record.owned is not None else {}),
        }

    tables = PodTables(network.tables, events.record, metrics.tables, lambda: controller.records.values())
    runtime, daemonsets = room.runtime, parse_daemonsets(settings.pods.daemonsets)
    gate = AdmissionGate(cluster.nodes, features_of(runtime), daemonsets, runtime.no_gpus)
    api = ApiServer(cluster.client, StatusPublisher(cluster.client, metrics, events.record), events)

    def build_executor(controller: PodController) -> PodExecutor:
        sender = PodSender(ReferenceResolver(cluster.references, controller.wake), node_facts)
        return PodExecutor(api, gate, demands, sender, logs, controller.forget)

    def build_agents(controller: PodController) -> AgentSide:
        return AgentSide(controller.records, controller.executor, tables, metrics, controller.wake)

    controller = PodController(
        metrics,
        build_executor,
        build_agents,
        HostPortWatch(network.on_host_ports),
        settings.cloud.agent_monitor_grace_s,
        [node.name for node in settings.nodes],
    )
    return controller
