"""What `vk-provider prices` shows of EC2: the snapshot on disk, else the table that this program is shipped with."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from vk_provider.cloud.aws.catalog.catalog import list_rows
from vk_provider.cloud.aws.catalog.prices import HOME_REGION, PriceTable, read_table
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.catalog.snapshot import Snapshot
from vk_provider.cloud.aws.catalog.store import SnapshotStore
from vk_provider.cloud.base import Offering
from vk_provider.cloud.pricelist import PriceList, PriceRow

ANY_ZONE = "*"


def read_price_list(region: str, settings: CatalogSettings) -> PriceList:
    """Without asking AWS. Blocking."""
    table = read_table()
    snapshot = SnapshotStore(settings.directory, region).load()
    if snapshot is None or not snapshot.machines:
        where = region if region in table.prices else HOME_REGION
        notes = [f"No catalog of {region} is kept in {settings.directory or 'a directory'} yet: the provider makes it"]
        return PriceList(_list_table(table, where), (*notes, table.describe(region)))
    subnets: dict[str, tuple[str, ...]] = {zone: () for zone in snapshot.zones}
    return PriceList(list_rows(snapshot, subnets), _describe(snapshot, table, time.time()))


def _describe(snapshot: Snapshot, table: PriceTable, now: float) -> tuple[str, ...]:
    parts = (
        ("Instance types and zones", snapshot.machines_at),
        ("On-demand prices of the Pricing API", snapshot.on_demand_at),
        ("Spot prices", snapshot.spot_at),
    )
    notes = [f"{name}: {_format_time(at, now)}" for name, at in parts]
    return (f"Region {snapshot.region}", *notes, table.describe(snapshot.region))


def _format_time(at: float, now: float) -> str:
    if not at:
        return "never fetched"
    return f"fetched {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC, {max(0.0, now - at) / 3600:.1f} hours ago"


def _list_table(table: PriceTable, region: str) -> list[PriceRow]:
    """Types and prices alone: the table does not say how large they are."""
    at = table.dates[region].timestamp()
    rows = [
        PriceRow(Offering(f"{family}.{size}", ANY_ZONE, "on-demand", "", 0, 0, usd), "bundled table", at)
        for family, sizes in table.prices[region].items()
        for size, usd in sizes.items()
    ]
    return sorted(rows, key=lambda row: (row.offering.price_per_hour, row.offering.instance_type))
