"""The local cloud as settings choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_provider.cloud.backend import CloudAbility, CloudBackend, CloudContext
from vk_provider.cloud.local.settings import LocalCloudSettings, find_problem
from vk_provider.cloud.pricelist import PriceList

if TYPE_CHECKING:
    from vk_provider.cloud.local.cloud import LocalCloud


def _create(settings: LocalCloudSettings, context: CloudContext) -> LocalCloud:
    from vk_provider.cloud.local.cloud import LocalCloud
    from vk_provider.cloud.local.config import configure

    return LocalCloud(configure(settings, context.registries), context.owner)


def _list_prices(settings: LocalCloudSettings) -> PriceList:
    from vk_provider.cloud.local.catalog import list_prices

    return list_prices()


BACKEND = CloudBackend(
    name="local",
    settings=LocalCloudSettings,
    create=_create,
    check=find_problem,
    gateway_name=lambda settings: settings.name,
    image_stores=lambda cloud: cloud.image_stores,
    ability=CloudAbility(boots_soon=True),
    price_list=_list_prices,
)
