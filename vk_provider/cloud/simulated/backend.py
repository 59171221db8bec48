"""The simulated cloud as settings choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_provider.cloud.backend import CloudBackend, CloudContext
from vk_provider.cloud.simulated.settings import SimulatedCloudSettings

if TYPE_CHECKING:
    from vk_provider.cloud.simulated.cloud import SimulatedCloud
    from vk_provider.cloud.simulated.connector import SimulatedConnector


def _create(settings: SimulatedCloudSettings, context: CloudContext) -> SimulatedCloud:
    from vk_provider.cloud.simulated.cloud import SimulatedCloud, configure

    return SimulatedCloud(configure(settings), context.owner)


def _connect(cloud: SimulatedCloud) -> SimulatedConnector:
    """Its agents live in the provider's process."""
    from vk_provider.cloud.simulated.connector import SimulatedConnector

    return SimulatedConnector(cloud)


BACKEND = CloudBackend(
    name="simulated", settings=SimulatedCloudSettings, create=_create, connect=_connect, has_machines=False
)
