"""What an instance type costs, and who says so. The table that this program is shipped with is made by
tests/catalog/bundle.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from vk_provider.cloud.aws.catalog.machines import Machine
from vk_provider.cloud.aws.catalog.snapshot import Snapshot

HOME_REGION: Final = "us-east-1"
"""Whose prices stand for those of a region that the table does not have. They rank instance types as well; as a bill
they are a little low."""
LEAST_SPOT_SHARE: Final = 0.05
"""Of the on-demand price: AWS speaks of savings up to 90 %. A lower spot price is not believed."""
_TABLE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True)
class Price:
    """USD an hour. source: in a few words; at: Unix seconds at which it was true, 0.0 for an estimate."""

    usd: float
    source: str
    at: float = 0.0


class PriceTable(Struct, frozen=True):
    """prices.json. dates, prices: by region; prices by family and size."""

    source: str
    version: str
    dates: dict[str, datetime]
    prices: dict[str, dict[str, dict[str, float]]]

    def find(self, region: str, instance_type: str) -> Price | None:
        """None for a type that no region of the table has."""
        family, _, size = instance_type.partition(".")
        for where in dict.fromkeys((region, HOME_REGION)):
            usd = self.prices.get(where, {}).get(family, {}).get(size)
            if usd is not None:
                source = "bundled table" if where == region else f"bundled table, of {where}"
                return Price(usd, source, self.dates[where].timestamp())
        return None

    def describe(self, region: str) -> str:
        where = region if region in self.prices else HOME_REGION
        date = f"{self.dates[where]:%Y-%m-%d}"
        return f"The bundled table has the prices of {where} of {date} ({self.source} {self.version})"


@lru_cache(maxsize=1)
def read_table() -> PriceTable:
    """The table that this program is shipped with."""
    return msgspec.json.decode(_TABLE.read_bytes(), type=PriceTable)


class PriceBook:
    """Prices of one snapshot. There always is one: a price that is missing or old never keeps an instance from being
    launched."""

    def __init__(self, snapshot: Snapshot, table: PriceTable) -> None:
        self._snapshot = snapshot
        self._table = table

    def find_on_demand(self, machine: Machine) -> Price:
        """The Pricing API's, else the table's, else an estimate."""
        usd = self._snapshot.on_demand.get(machine.instance_type)
        if usd is not None:
            return Price(usd, "Pricing API", self._snapshot.on_demand_at)
        return self._table.find(self._snapshot.region, machine.instance_type) or Price(estimate(machine), "estimate")

    def find_spot(self, machine: Machine, zone: str) -> Price:
        """The spot price history's, else the on-demand price: what a spot instance costs at most."""
        on_demand = self.find_on_demand(machine)
        usd = self._snapshot.spot.get(zone, {}).get(machine.instance_type, 0.0)
        if usd >= on_demand.usd * LEAST_SPOT_SHARE:
            return Price(usd, "spot price history", self._snapshot.spot_at)
        return Price(on_demand.usd, f"at most as on demand: {on_demand.source}", on_demand.at)


def estimate(machine: Machine) -> float:
    """USD an hour of a type that nobody has a price of. On the high side, so that it is launched when nothing else
    fits: m7i costs 0.05 a vCPU with its memory, GPUs from 0.4 upwards."""
    return round(machine.cpus * 0.06 + machine.memory_mib / 1024 * 0.006 + machine.gpus * 4.0, 4)
