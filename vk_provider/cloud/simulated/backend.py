"""The simulated cloud as settings choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_provider.cloud.backend import CloudAbility, CloudBackend, CloudContext
from vk_provider.cloud.pricelist import PriceList
from vk_provider.cloud.simulated.settings import SimulatedCloudSettings

if TYPE_CHECKING:
    from vk_provider.cloud.simulated.cloud import SimulatedCloud
    from vk_provider.cloud.simulated.connector import SimulatedConnector


def _create(settings: SimulatedCloudSettings, context: CloudContext) -> SimulatedCloud:
    from vk_provider.cloud.simulated.cloud import SimulatedCloud
    from vk_provider.cloud.simulated.config import configure

    return SimulatedCloud(configure(settings), context.owner)


def _connect(cloud: SimulatedCloud) -> SimulatedConnector:
    """Its agents live in the provider's process."""
    from vk_provider.cloud.simulated.connector import SimulatedConnector

    return SimulatedConnector(cloud)


def _list_prices(settings: SimulatedCloudSettings) -> PriceList:
    from vk_provider.cloud.local.catalog import list_prices

    return list_prices()


BACKEND = CloudBackend(
    name="simulated",
    settings=SimulatedCloudSettings,
    create=_create,
    connect=_connect,
    has_machines=False,
    ability=CloudAbility(stops=True),
    price_list=_list_prices,
)
