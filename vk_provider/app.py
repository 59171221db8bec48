"""Composition root of the provider: builds bottom-up, hands root tasks to the supervisor, stops in order.

Start: API server -> identity -> cloud (listed before the cluster) -> ports -> pods listed -> adoption -> Nodes.
Stop:  streams -> watches of pods -> work queues and status PATCHes -> events -> clients. Instances keep running, and
the Nodes stay Ready until their Leases expire: a restart must not remove running pods from their Services.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry

from vk_provider import __version__
from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.identity_store import (
    DirectoryIdentityStore,
    IdentityStore,
    ProviderIdentity,
    SecretIdentityStore,
)
from vk_provider.aiokit import openfiles
from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.loop_errors import handle_loop_error
from vk_provider.aiokit.supervisor import RootTaskError, Supervisor
from vk_provider.cloud.base import Cloud, Instance, InstanceRuntime, Offering
from vk_provider.cloud.limits import LimitedCloud
from vk_provider.clouds import build_boot_data, create_backend, find_image_stores, registry_table
from vk_provider.errors import BadStartError, CloudError, KubeApiError
from vk_provider.explaining.explainer import NetExplainer
from vk_provider.explaining.sources import Sources
from vk_provider.kube.client import KubeClient
from vk_provider.kube.client_ca import ClusterClientCa
from vk_provider.kube.informer import Informer
from vk_provider.kube.paths import PODS, field_selector
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kube.references import ReferenceStore
from vk_provider.kubelet.auth import Authenticator, Authorizer
from vk_provider.kubelet.client_ca import ClientCaFile
from vk_provider.kubelet.server import HealthServer
from vk_provider.logs import set_up_logging
from vk_provider.metrics import ProcessMetrics
from vk_provider.networking import Networking
from vk_provider.node.lease import NodeLease
from vk_provider.node.watch_check import describe_watch
from vk_provider.node_service import NodeService, build_spec
from vk_provider.pods.archive import ArchiveLimits, LogArchive
from vk_provider.pods.build import build_controller
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.source import ControllerPods
from vk_provider.pods.sweep import OrphanSweep
from vk_provider.preparing.build import Preparing
from vk_provider.registry.client import RegistryClient
from vk_provider.settings import CLUSTER_CA, Settings

log = logging.getLogger(__name__)

IDENTITY_CHECK_S = 3600.0
IDENTITY_RETRY_S = 60.0
START_CANCEL_LIMIT_S = 10.0
LEASE_CONNECTIONS = 2
"""For each Node."""
REVIEW_CONNECTIONS = 16


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises BadStartError."""
    set_up_logging(settings.logs)
    openfiles.raise_limit()
    try:
        return uvloop.run(_run(settings))
    except RootTaskError as error:
        log.critical("%s", error, exc_info=error.__cause__)
        return 1


async def _run(settings: Settings) -> int:
    provider = Provider(settings)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, provider.supervisor.request_stop)
    starting = asyncio.create_task(provider.start(), name="start")
    watching = asyncio.create_task(provider.supervisor.wait(), name="supervisor")
    try:
        # A start may wait for the cloud or the API server without limit: signals and failed root tasks must end it.
        await asyncio.wait({starting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not watching.done():
            starting.result()
        await watching
    finally:
        starting.cancel()
        watching.cancel()
        await asyncio.wait({starting, watching}, timeout=START_CANCEL_LIMIT_S)
        await provider.stop()
    return 0


class Provider:
    """The provider process. `start` returns when everything runs; the supervisor then holds the root tasks."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor()
        self.registry = CollectorRegistry()
        self._closers: list[Any] = []
        self._nodes: list[NodeService] = []
        self._informers: dict[str, Informer] = {}

    async def start(self) -> None:
        settings = self.settings
        metrics = ProcessMetrics(self.registry)
        client = await KubeClient.connect(
            settings.cluster.kubeconfig or None,
            settings.cluster.context or None,
            pool_size=settings.cluster.request_connections,
        )
        self._closers.append(client.close)
        client.metrics_hook = metrics.observe_api_call
        # Status PATCHes that hang must not delay Leases, nor must reviews for unknown clients of :10250 delay statuses.
        self._leases = client.with_connections(LEASE_CONNECTIONS * len(settings.nodes))
        self._reviews = client.with_connections(REVIEW_CONNECTIONS)
        self._closers += [self._leases.close, self._reviews.close]
        store = self._identity_store(client)
        self._identity = await self._load_identity(store)
        cloud, connector = create_backend(settings, self._identity)
        self._closers += [connector.close, cloud.close]
        try:
            await cloud.start()
        except OSError as error:
            raise BadStartError(f"the {cloud.name} cloud cannot start: {error}") from None
        self._image_stores = find_image_stores(settings, cloud)
        cloud = metrics.measure_cloud(LimitedCloud(cloud))
        offerings, runtime, instances = await self._ask_cloud(cloud, self._leases)
        await self._build(client, cloud, connector, offerings, runtime, metrics)
        # Before anything is changed: a second provider, started by mistake, must fail here and launch nothing.
        for node in self._nodes:
            await node.listen()
        self._health = HealthServer(settings.kubelet.healthz_address, settings.kubelet.healthz_port, self._is_healthy)
        await self._health.start()
        await self._sync_pods(client)
        await self._end_surplus(cloud, self.controller.adopt(instances))
        await self.archive.keep_only(self.controller.records)
        self.supervisor.start("event loop watch", metrics.watch_loop())
        self.supervisor.start("orphan sweep", self._sweep.run())
        self._preparing.start(self.supervisor)
        self.supervisor.start("identity rotation", self._rotate_identity(store))
        for node in self._nodes:
            await node.start(self.supervisor)
        # A large heap of long-lived dicts: the objects that exist now are excluded from garbage collections.
        gc.collect()
        gc.freeze()
        # Collections stay near 20 ms (50 on a busy machine): the middle generation never holds more than 30,000
        # objects (a million, which 4,000 new pods make, would stop the loop for 250 ms).
        gc.set_threshold(5_000, 5, 2_000)
        log.info(
            "vk-provider %s runs %s on the %s cloud",
            __version__,
            ", ".join(n.name for n in settings.nodes),
            settings.cloud.backend,
        )

    def _identity_store(self, client: KubeClient) -> IdentityStore:
        settings = self.settings.identity
        return (
            SecretIdentityStore(client, settings.secret)
            if settings.secret
            else DirectoryIdentityStore(settings.directory)
        )

    async def _load_identity(self, store: IdentityStore) -> ProviderIdentity:
        try:
            return await store.load_or_create()
        except KubeApiError as error:
            raise BadStartError(f"the provider's identity (identity.secret) cannot be read or made: {error}") from None

    async def _end_surplus(self, cloud: Cloud, surplus: Sequence[Instance]) -> None:
        """Terminate surplus instances; when the cloud fails, the orphan sweep finds them again."""
        if not surplus:
            return
        names = ", ".join(instance.instance_id for instance in surplus)
        log.warning("terminating surplus instances of pods that have one: %s", names)
        try:
            results = await cloud.terminate([instance.instance_id for instance in surplus])
        except CloudError as error:
            results = [error]
        for failure in results:
            if failure is not None:
                log.warning("surplus instances are left to the orphan sweep: %s", failure)

    async def _ask_cloud(
        self, cloud: Cloud, client: KubeClient
    ) -> tuple[Sequence[Offering], InstanceRuntime, list[Instance]]:
        """Offerings, runtime and instances, before the cluster is read; waits until the cloud answers.

        A later outage makes no Node NotReady: the controller manager would evict the running pods, while only new pods
        need the cloud (event FailedLaunch). For the same reason the Leases of existing Nodes are renewed meanwhile.
        """
        backoff = Backoff(0.5, 15.0)
        holds: list[str] = []
        while True:
            try:
                offerings = await cloud.describe_offerings()
                runtime = await cloud.describe_runtime()
                instances = await cloud.list_owned()
                await self.supervisor.cancel(holds)
                return offerings, runtime, instances
            except CloudError as error:
                if not error.retryable:
                    raise BadStartError(f"the {cloud.name} cloud refuses: {error}") from None
                log.warning("the cloud does not answer, waiting for it before the start: %s", error)
            holds = holds or self._hold_leases(client)
            await asyncio.sleep(backoff.next_delay_s())

    def _hold_leases(self, client: KubeClient) -> list[str]:
        """Start root tasks that renew the Leases of existing Nodes; returns their names."""
        tasks = [
            self.supervisor.start(f"held lease of {node.name}", NodeLease(client, node.name, create=False).run())
            for node in self.settings.nodes
        ]
        return [task.get_name() for task in tasks]

    async def _build(
        self,
        client: KubeClient,
        cloud: Cloud,
        connector: AgentConnector,
        offerings: Sequence[Offering],
        runtime: InstanceRuntime,
        metrics: ProcessMetrics,
    ) -> None:
        settings = self.settings
        pod_metrics = PodMetrics(self.registry)
        self.recorder = EventRecorder(client, busy=lambda: client.status_load.is_busy)
        self.references = ReferenceStore(client, on_event=self.recorder.record)
        specs = [(node, build_spec(node, settings, runtime)) for node in settings.nodes]
        self._networking = networking = Networking(
            settings, client, self.references.services, self.registry, self.recorder
        )
        self._closers.append(networking.close)
        for node, spec in specs:
            networking.add_node(node, spec.internal_ips)
        limits = settings.pods
        self.archive = LogArchive(
            limits.archive_dir,
            ArchiveLimits(
                limits.archive_bytes, limits.archive_pod_bytes, limits.archive_total_bytes, limits.archive_timeout_s
            ),
        )
        self._preparing = preparing = Preparing(
            self._image_stores,
            settings.images,
            RegistryClient(registry_table(settings.registries)),
            self.references,
            self.registry,
            lambda record, kind, reason, text: self.controller.executor.event(record, kind, reason, text),
            lambda: list(self.controller.records.values()),
        )
        self._closers.append(preparing.close)
        self.controller = build_controller(
            settings=settings,
            client=client,
            cloud=cloud,
            connector=connector,
            references=self.references,
            recorder=self.recorder,
            archive=self.archive,
            offerings=offerings,
            runtime=runtime,
            metrics=pod_metrics,
            nodes=self._node_object,
            boot_data=lambda token: build_boot_data(settings, self._identity, token),
            tables=networking.sources,
            on_host_ports=networking.set_host_ports,
            images=preparing.images,
        )
        self._sweep = OrphanSweep(
            cloud,
            client,
            self.controller,
            {node.name for node in settings.nodes},
            pod_metrics,
            settings.cloud.orphan_sweep_s,
            settings.cloud.orphan_min_age_s,
        )
        pods = ControllerPods(self.controller, self.archive)
        self.supervisor.start("events", self.recorder.run())
        self.supervisor.start("references", self.references.run())
        networking.start(self.supervisor)
        auth = Authenticator(self._reviews), Authorizer(self._reviews)
        client_ca = await self._client_ca(client)
        records = self.controller.records
        explainer = NetExplainer(
            Sources(lambda: list(records.values()), networking, connector, client, settings.cluster)
        )
        for node, spec in specs:
            self._nodes.append(
                NodeService(
                    spec,
                    settings,
                    client,
                    self._leases,
                    connector,
                    self.recorder,
                    pods,
                    self.registry,
                    (partial(self._pods_problem, node.name),),
                    client_ca,
                    auth,
                    self._is_healthy,
                    explainer,
                    partial(self.controller.on_node_known, node.name),
                )
            )

    def _node_object(self, name: str) -> dict[str, Any] | None:
        node = self._node(name)
        return node.object if node is not None else None

    def _node(self, name: str) -> NodeService | None:
        return next((node for node in self._nodes if node.spec.name == name), None)

    async def _client_ca(self, client: KubeClient) -> str:
        """CAs (PEM) of the client certificates that the kubelet API accepts."""
        path = self.settings.kubelet.client_ca_file
        if not path:
            return ""
        if path == CLUSTER_CA:
            cluster = ClusterClientCa(client)
            pem = await cluster.load()
            self.supervisor.start("CAs for client certificates", cluster.run(pem, self._reload_client_ca))
            return pem
        file = ClientCaFile(Path(path))
        self.supervisor.start("CAs for client certificates", file.run(self._reload_client_ca))
        return file.load()

    def _reload_client_ca(self, pem: str) -> None:
        for node in self._nodes:
            node.reload_client_ca(pem)

    async def _sync_pods(self, client: KubeClient) -> None:
        for node in self.settings.nodes:

            def on_event(kind: str, pod: dict[str, Any], name: str = node.name) -> None:
                self._networking.on_pod(kind, pod)
                self.controller.on_pod(name, kind, pod)

            informer = Informer(client, PODS, field_selector(spec__nodeName=node.name), on_event, keep=False)
            self._informers[node.name] = informer
            self.supervisor.start(f"pods of {node.name}", informer.run())
        for informer in self._informers.values():
            await informer.synced.wait()

    def _is_healthy(self) -> bool:
        """/healthz syncloop: the root tasks run (the supervisor ends the process when one does not)."""
        informers = self._informers.values()
        return bool(informers) and all(informer.synced.is_set() for informer in informers)

    def _pods_problem(self, name: str) -> str:
        informer, node = self._informers.get(name), self._node(name)
        if informer is None or node is None or not informer.synced.is_set():
            return "the pods of the node are not listed yet"
        return describe_watch(informer.failing_since, informer.error, node.answering_since, time.monotonic())

    async def _rotate_identity(self, store: IdentityStore) -> None:
        """Rotate the master secret; instances that boot with the last few are still accepted. A new one is saved before
        the first launch with it: after a crash, no instance may be unknown."""
        while True:
            delay_s = IDENTITY_CHECK_S
            rotated = self._identity.rotated(time.time(), self.settings.identity.boot_secret_ttl_s)
            if rotated is not None:
                try:
                    await store.save(rotated)
                    self._identity.take_over(rotated)
                    log.info("master secret of the launches rotated")
                except (KubeApiError, OSError) as error:
                    log.warning("master secret of the launches not rotated: %s", error)
                    delay_s = IDENTITY_RETRY_S
            await asyncio.sleep(delay_s)

    async def stop(self) -> None:
        """Every step has a time limit; a failure is logged and the next step is taken."""
        if self._informers:
            log.info("stopping; instances and their pods keep running, the next start adopts them")
        for node in self._nodes:
            await self._bounded("kubelet API", node.stop_server(), 5.0)
        if hasattr(self, "_health"):
            await self._bounded("health server", self._health.stop(), 3.0)
        await self.supervisor.cancel([f"pods of {name}" for name in self._informers], limit_s=2.0)
        if hasattr(self, "controller"):
            await self._bounded("pods", self.controller.close(), 10.0)
            await self._bounded("events", self.recorder.flush(3.0), 5.0)
        await self.supervisor.cancel()
        for close in reversed(self._closers):
            await self._bounded("close", close(), 5.0)

    async def _bounded(self, name: str, step: Any, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await step
        except TimeoutError:
            log.error("stopping: %s took longer than %.0f s", name, limit_s)
        except Exception as error:
            log.error("stopping: %s failed: %s", name, error)
