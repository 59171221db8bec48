"""What EBS volumes and snapshots cost, by the settings. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vk_provider.cloud.aws.diskpricesettings import DiskPriceSettings
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.volumetypes import GP3, INCLUDED, speed_beyond
from vk_provider.cloud.volumes import VolumeRates, VolumeSpeed

HOURS_A_MONTH: Final = 730.0
"""AWS's own figure for prices of a month."""
KNOWN_OF: Final = "us-east-1, by AWS's page of EBS prices"
"""Of the defaults of the settings."""
_GIB = 2**30


def build_rates(settings: AwsCloudSettings) -> VolumeRates:
    """Of the volumes that instances get."""
    prices = settings.disk_prices
    root = VolumeSpeed(settings.root_volume_iops, settings.root_volume_throughput)
    rates = VolumeRates(
        prices.iops / HOURS_A_MONTH, prices.throughput / HOURS_A_MONTH, INCLUDED, root, GP3.iops_per_gib
    )
    stores = settings.image_stores
    if not stores.enabled:
        return rates
    size = max(stores.volume_gib, rates.least_gib(speed_beyond(stores.iops, stores.throughput)))
    beyond = rates.compute_price(VolumeSpeed(stores.iops, stores.throughput))
    return replace(rates, store_price=size * settings.root_volume_price / HOURS_A_MONTH + beyond)


def price_snapshot(settings: AwsCloudSettings, size_bytes: int) -> float:
    """USD an hour."""
    return size_bytes / _GIB * settings.disk_prices.snapshot / HOURS_A_MONTH


def describe_prices(settings: AwsCloudSettings) -> str:
    """For people: what each costs, and whose word that is."""
    prices, known = settings.disk_prices, DiskPriceSettings()
    root = AwsCloudSettings.__dataclass_fields__["root_volume_price"].default
    is_default = (prices, settings.root_volume_price) == (known, root)
    source = f"the defaults, of {KNOWN_OF}" if is_default else "cloud.aws.root_volume_price and cloud.aws.disk_prices"
    return (
        f"Disks (gp3), USD a month: {settings.root_volume_price:g} a GiB, {prices.iops:g} an IOPS beyond "
        f"{INCLUDED.iops}, {prices.throughput:g} a MiB/s beyond {INCLUDED.mib_s}; snapshots {prices.snapshot:g} a GiB "
        f"({source})"
    )
