"""The first phase of the provider: clients, the cluster's Services, identity and cloud. It changes nothing that another
provider of the same Nodes relies on, so a standby can have it, too."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.identity_store import (
    DirectoryIdentityStore,
    IdentityStore,
    ProviderIdentity,
    SecretIdentityStore,
)
from vk_provider.aiokit.stopsteps import StopSteps
from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.base import Cloud
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.cloud.limits import LimitedCloud
from vk_provider.clouds import Access, create_backend, find_access, find_image_stores, find_left_stores
from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.metrics import ProcessMetrics
from vk_provider.routing.service import ServiceRouting
from vk_provider.settings import IdentitySettings, Settings

LEASE_CONNECTIONS = 2
"""For each Node."""
REVIEW_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class ApiClients:
    """Clients of one identity at the API server, each with connections of its own: status PATCHes that hang must not
    delay Leases, nor must reviews for unknown clients of the kubelet API delay statuses.

    requests: everything else
    leases:   the Nodes' heartbeats
    reviews:  of who asks the kubelet API
    """

    requests: KubeClient
    leases: KubeClient
    reviews: KubeClient


@dataclass(frozen=True, slots=True)
class Foundation:
    """What a provider has before it leads. Whoever waits in between reads `store` again before the first launch.

    services, routing: they run, and make tables once they have Nodes
    """

    settings: Settings
    metrics: ProcessMetrics
    registry: CollectorRegistry
    clients: ApiClients
    services: ServiceEnvironment
    routing: ServiceRouting
    store: IdentityStore
    identity: ProviderIdentity
    cloud: Cloud
    connector: AgentConnector
    image_stores: ImageStores | None = None
    access: Access = Access()
    left_stores: ImageStores | None = None


async def prepare(settings: Settings, supervisor: Supervisor, stops: StopSteps) -> Foundation:
    """API server -> Services -> identity -> cloud. Raises BadStartError.

    Services are read while the cloud starts: large clusters have megabytes of them, and no container starts without.
    """
    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry)
    clients = await connect(settings, metrics, stops)
    services = ServiceEnvironment(clients.requests)
    routing = ServiceRouting(clients.requests, services, registry)
    tasks = {"Services": services.run(), "tables of Services": routing.run()}
    stops.add("Services", lambda: supervisor.cancel([*tasks]))
    for name, task in tasks.items():
        supervisor.start(name, task)
    store = build_identity_store(settings.identity, clients.requests)
    identity = await load_identity(store)
    cloud, connector = create_backend(settings, identity)
    stops.add("connector of the agents", connector.close)
    stops.add("cloud", cloud.close)
    try:
        await cloud.start()
    except OSError as error:
        raise BadStartError(f"the {cloud.name} cloud cannot start: {error}") from None
    measured = metrics.measure_cloud(LimitedCloud(cloud))
    image_stores = find_image_stores(settings, cloud)
    left_stores = find_left_stores(settings, cloud)
    access = find_access(settings, cloud)
    return Foundation(
        settings,
        metrics,
        registry,
        clients,
        services,
        routing,
        store,
        identity,
        measured,
        connector,
        image_stores,
        access,
        left_stores,
    )


async def connect(settings: Settings, metrics: ProcessMetrics, stops: StopSteps) -> ApiClients:
    """Raises BadStartError when the API server does not accept us."""
    cluster = settings.cluster
    requests = await KubeClient.connect(
        cluster.kubeconfig or None, cluster.context or None, pool_size=cluster.request_connections
    )
    stops.add("API client", requests.close)
    requests.metrics_hook = metrics.observe_api_call
    leases = requests.with_connections(LEASE_CONNECTIONS * len(settings.nodes))
    stops.add("API client of the Leases", leases.close)
    reviews = requests.with_connections(REVIEW_CONNECTIONS)
    stops.add("API client of the reviews", reviews.close)
    return ApiClients(requests, leases, reviews)


def build_identity_store(settings: IdentitySettings, client: KubeClient) -> IdentityStore:
    if settings.secret:
        return SecretIdentityStore(client, settings.secret)
    return DirectoryIdentityStore(settings.directory)


async def load_identity(store: IdentityStore) -> ProviderIdentity:
    """Raises BadStartError."""
    try:
        return await store.load_or_create()
    except KubeApiError as error:
        raise BadStartError(f"the provider's identity (identity.secret) cannot be read or made: {error}") from None
