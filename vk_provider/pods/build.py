"""Builds the pod controller with its executor, launcher and connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vk_provider.agentclient.base import AgentConnector
from vk_provider.cloud.base import Cloud, InstanceRuntime, Offering
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kube.references import ReferenceStore
from vk_provider.pods.admission import features_of, parse_daemonsets
from vk_provider.pods.archive import LogArchive
from vk_provider.pods.connection import InstanceConnection
from vk_provider.pods.controller import PodController
from vk_provider.pods.executor import COMPONENT, PodExecutor, involved
from vk_provider.pods.hostports import HostPortWatch, OnHostPorts
from vk_provider.pods.images import PodImages
from vk_provider.pods.launch_request import BootData
from vk_provider.pods.launcher import PodLauncher
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.record import PodRecord
from vk_provider.pods.tables import PodTables, Sources
from vk_provider.pods.termination import InstanceTerminator
from vk_provider.settings import Settings
from vk_provider.sizing.preferences import build_preferences


def build_controller(
    *,
    settings: Settings,
    client: KubeClient,
    cloud: Cloud,
    connector: AgentConnector,
    references: ReferenceStore,
    recorder: EventRecorder,
    archive: LogArchive,
    offerings: Sequence[Offering],
    runtime: InstanceRuntime,
    metrics: PodMetrics,
    nodes: Callable[[str], Json | None],
    boot_data: BootData,
    tables: Sources,
    on_host_ports: OnHostPorts,
    images: PodImages,
) -> PodController:
    """The controller, not started: it waits for `adopt`. tables: those that the instance of a pod is sent."""

    def event(record: PodRecord, event_type: str, reason: EventReason, message: str) -> None:
        recorder.record(involved(record.pod), event_type, reason, message, host=record.node, component=COMPONENT)

    preferences = {node.name: build_preferences(node.zone, node.architecture, offerings) for node in settings.nodes}
    shared_host_paths = {node.name: node.shared_host_paths for node in settings.nodes}
    launcher = PodLauncher(
        cloud, settings.cloud.owner, offerings, boot_data, metrics, event, preferences, shared_host_paths, images
    )

    def node_facts(record: PodRecord) -> Json:
        shared = shared_host_paths.get(record.node)
        return {
            "name": record.node,
            "allocatable": launcher.allocatable_of(record.instance) if record.instance is not None else {},
            "clusterDNS": list(settings.cluster.dns),
            "clusterDomain": settings.cluster.domain,
            **({"sharedHostPaths": list(shared)} if shared else {}),
            "tables": pod_tables.names(record),
            **({"tellImages": True} if images.tells else {}),
        }

    pod_tables = PodTables(tables, event, metrics.tables, lambda: controller.records.values())
    terminator = InstanceTerminator(cloud)
    metrics.follow_stuck(lambda: len(terminator.stuck))

    def build_executor(controller: PodController) -> PodExecutor:
        return PodExecutor(
            client=client,
            cloud=cloud,
            connector=connector,
            references=references,
            recorder=recorder,
            archive=archive,
            launcher=launcher,
            metrics=metrics,
            terminator=terminator,
            nodes=nodes,
            node_facts=node_facts,
            wake=controller.wake,
            connect=controller.connect,
            forget=controller.forget,
            features=features_of(runtime),
            daemonsets=parse_daemonsets(settings.pods.daemonsets),
        )

    def build_connection(controller: PodController) -> InstanceConnection:
        return InstanceConnection(
            connector,
            controller.describe,
            controller.wake,
            controller.receive,
            settings.cloud.boot_timeout_s,
            controller.on_connected,
            controller.on_disconnected,
            controller.on_violation,
        )

    controller = PodController(
        cloud,
        recorder,
        metrics,
        build_executor,
        build_connection,
        settings.cloud.agent_monitor_grace_s,
        launcher.capacity_of,
        pod_tables,
        HostPortWatch(on_host_ports),
        images,
    )
    return controller
