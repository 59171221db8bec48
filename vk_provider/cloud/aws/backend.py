"""EC2 as settings choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_provider.cloud.aws.catalog.listing import read_price_list
from vk_provider.cloud.aws.diskprices import describe_prices
from vk_provider.cloud.aws.options import OPTIONS
from vk_provider.cloud.aws.settings import AwsCloudSettings, find_problem
from vk_provider.cloud.aws.volumetypes import GP3
from vk_provider.cloud.backend import CloudAbility, CloudBackend, CloudContext
from vk_provider.cloud.pricelist import PriceList
from vk_provider.cloud.volumes import RootVolumes, VolumeSpeed
from vk_provider.errors import BadStartError

if TYPE_CHECKING:
    from vk_provider.cloud.aws.cloud import AwsCloud


OFFERINGS_TTL_S = 600.0
"""The catalog refreshes itself; a new answer of it is looked for so often."""

LEAST_RUN_S = 60.0
"""EC2 bills by the second, and a minute at least of each launch and of each start (Amazon EC2 On-Demand Pricing)."""

GATHER_S = 2.0
"""EC2's bucket of RunInstances requests is said to hold 5 and to get 2 more a second."""


def _create(settings: AwsCloudSettings, context: CloudContext) -> AwsCloud:
    try:
        from vk_provider.cloud.aws.cloud import AwsCloud
    except ModuleNotFoundError as error:
        raise BadStartError(f'the cloud "aws" needs the extra "aws" of vk-provider: {error}') from error

    return AwsCloud(settings, context.owner, context.registries)


def _read_price_list(settings: AwsCloudSettings) -> PriceList:
    prices = read_price_list(settings.region, settings.catalog)
    return PriceList(prices.rows, (*prices.notes, describe_prices(settings)))


def _find_root_volumes(settings: AwsCloudSettings) -> RootVolumes:
    return RootVolumes(GP3, VolumeSpeed(settings.root_volume_iops, settings.root_volume_throughput))


BACKEND = CloudBackend(
    name="aws",
    settings=AwsCloudSettings,
    create=_create,
    check=find_problem,
    root_volumes=_find_root_volumes,
    ability=CloudAbility(frozenset(OPTIONS), OFFERINGS_TTL_S, GATHER_S, stops=True, least_run_s=LEAST_RUN_S),
    price_list=_read_price_list,
    image_stores=lambda cloud: cloud.image_stores,
    keeps_images=lambda settings: settings.image_stores.enabled,
    credentials=lambda cloud: cloud.credentials,
    pod_identity=lambda cloud: cloud.pod_identity,
    spot_prices=lambda cloud: cloud.spot_prices,
)
