"""The configured cloud, the connector to the agents of its instances, and their boot data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from vk_provider import __version__
from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.backend import CloudContext
from vk_provider.cloud.base import Cloud, InstanceRuntime
from vk_provider.cloud.credentials import CredentialSource
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.cloud.limitedabilities import (
    LimitedCredentials,
    LimitedImageStores,
    LimitedPodIdentity,
    LimitedSpotPrices,
)
from vk_provider.cloud.podidentity import PodIdentitySource
from vk_provider.cloud.spotprices import SpotPriceSource
from vk_provider.errors import BadStartError
from vk_provider.settings import RegistrySettings, Settings, find_backend
from vk_provider.wire.bootdata import BootData


def create_backend(settings: Settings, identity: ProviderIdentity) -> tuple[Cloud, AgentConnector]:
    """The cloud (not started) and the connector to its agents. Raises BadStartError."""
    cloud = check_cloud(settings)
    backend, _ = find_backend(settings.cloud)
    if backend.connect is not None:
        return cloud, backend.connect(cloud)
    return cloud, HttpsConnector(identity, settings.identity.certificate_ttl_s)


def find_image_stores(settings: Settings, cloud: Cloud) -> ImageStores | None:
    """The cloud's ability to have images ready, once it was started; None where it has none or none is wanted."""
    return _limit_image_stores(settings, cloud) if _wants_images(settings) else None


def find_left_stores(settings: Settings, cloud: Cloud) -> ImageStores | None:
    """Where the cloud could have images ready and none is wanted, what may be left of those that were, once it was
    started; None where there cannot be any, or they are wanted."""
    return None if _wants_images(settings) else _limit_image_stores(settings, cloud)


def _wants_images(settings: Settings) -> bool:
    backend, own = find_backend(settings.cloud)
    return settings.images.prepare is not False and backend.keeps_images(own)


def _limit_image_stores(settings: Settings, cloud: Cloud) -> ImageStores | None:
    backend, _ = find_backend(settings.cloud)
    return LimitedImageStores(backend.image_stores(cloud)) if backend.image_stores is not None else None


@dataclass(frozen=True, slots=True)
class Access:
    """What the cloud gives besides instances: to pods, without being asked in their specs, logins at registries and
    roles; to the bill, prices that change."""

    credentials: CredentialSource | None = None
    pod_identity: PodIdentitySource | None = None
    spot_prices: SpotPriceSource | None = None


def find_access(settings: Settings, cloud: Cloud) -> Access:
    """Once the cloud was started."""
    backend, _ = find_backend(settings.cloud)
    credentials, roles = backend.credentials(cloud), backend.pod_identity(cloud)
    prices = backend.spot_prices(cloud)
    return Access(
        LimitedCredentials(credentials) if credentials is not None else None,
        LimitedPodIdentity(roles) if roles is not None else None,
        LimitedSpotPrices(prices) if prices is not None else None,
    )


def check_cloud(settings: Settings) -> Cloud:
    """The cloud, not started, once its settings were checked as its start does. Raises BadStartError."""
    backend, own = find_backend(settings.cloud)
    cloud: Cloud = backend.create(own, CloudContext(settings.cloud.owner, registry_table(settings.registries)))
    wanted_by = "images.prepare" if settings.images.prepare else "images.named" if settings.images.named else ""
    if settings.images.named and settings.images.prepare is False:
        raise BadStartError(
            "images.named: nothing is prepared with images.prepare = false; next: leave one of them out"
        )
    if wanted_by and backend.image_stores is None:
        raise BadStartError(
            f"{wanted_by}: the {cloud.name} cloud cannot have images ready; next: leave it out, and instances pull "
            "theirs, or fetch them from each other (images.peers)"
        )
    if wanted_by and not backend.keeps_images(own):
        raise BadStartError(
            f"{wanted_by}: the settings of the {cloud.name} cloud do not let it have images ready; next: "
            f"cloud.{cloud.name}.image_stores.enabled = true, or leave {wanted_by} out"
        )
    for pool in settings.pools:
        if pool.state == "stopped" and not backend.ability.stops:
            raise BadStartError(
                f'pool {pool.name}: state = "stopped": the {cloud.name} cloud cannot stop instances and start them '
                'again; next: state = "running"'
            )
    for node in settings.nodes:
        if node.shared_host_paths and not cloud.shares_host_paths:
            raise BadStartError(
                f"shared_host_paths of node {node.name}: instances of the {cloud.name} cloud cannot share directories"
            )
    return cloud


def registry_table(registries: tuple[RegistrySettings, ...]) -> dict[str, dict[str, Any]]:
    """BootData.registries: {host: {"server": URL, "plain_http": bool}}."""
    return {
        item.host: {
            "server": item.server or f"{'http' if item.plain_http else 'https'}://{item.host}",
            "plain_http": item.plain_http,
        }
        for item in registries
    }


def digest_configuration(settings: Settings, identity: ProviderIdentity, runtime: InstanceRuntime) -> str:
    """Of what goes into every new instance, but for the secrets of its launch: an idle instance of another one is not
    what would be launched now."""
    boot_data = BootData(ca_pem=identity.ca_pem, boot_secret="", registries=registry_table(settings.registries))
    _, own = find_backend(settings.cloud)
    made_of = repr((__version__, runtime, own)) + boot_data.to_user_data()
    return hashlib.sha256(made_of.encode()).hexdigest()


def build_boot_data(settings: Settings, identity: ProviderIdentity, client_token: str) -> tuple[str, str]:
    """(launch ID, user data) of the instance of one launch; see agentclient.bootsecret."""
    master = identity.master_secrets[-1]
    launch_id = build_launch_id(master, client_token)
    boot_data = BootData(
        ca_pem=identity.ca_pem,
        boot_secret=derive_boot_secret(master, launch_id),
        registries=registry_table(settings.registries),
        image_peers=settings.images.peers,
    )
    return launch_id, boot_data.to_user_data()
