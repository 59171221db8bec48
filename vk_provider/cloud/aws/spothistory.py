"""Spot prices over time, for the bill: DescribeSpotPriceHistory of what runs."""

from __future__ import annotations

from collections.abc import Collection

from vk_provider.cloud.aws.catalog.client import CatalogClient
from vk_provider.cloud.aws.catalog.fetch import fetch_spot_changes
from vk_provider.cloud.spotprices import SpotOffering, SpotPriceChange

INSTANCE_HOUR_S = 3600.0
"""A running instance costs the spot price in effect at the beginning of each of its hours, billed by the second.
Source: "Amazon EC2 Spot introduces new pricing model" (AWS, What's New, November 2017): "you will continue to pay the
Spot price that's in effect at the beginning of each instance-hour"."""
TYPES = 100
"""Named in one call."""


class SpotHistory:
    """cloud.spotprices.SpotPriceSource."""

    period_s = INSTANCE_HOUR_S

    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    async def fetch_changes(self, offered: Collection[SpotOffering], since: float) -> list[SpotPriceChange]:
        """See cloud.spotprices. EC2 keeps 90 days: what it says of an earlier time begins there."""
        types = sorted({instance_type for instance_type, _ in offered})
        zones = sorted({zone for _, zone in offered})
        found: list[SpotPriceChange] = []
        for first in range(0, len(types), TYPES):
            found += await fetch_spot_changes(self._client, types[first : first + TYPES], zones, since)
        return found
