"""What a cloud with spot capacity can say besides: how the prices of its offerings have changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

SpotOffering = tuple[str, str]
"""(instance type, zone)."""


@dataclass(frozen=True, slots=True)
class SpotPriceChange:
    """price_per_hour: USD, from `at` (Unix seconds) on."""

    instance_type: str
    zone: str
    at: float
    price_per_hour: float


class SpotPriceSource(Protocol):
    """period_s: the price at the begin of each such time of an instance's life is that of all of it."""

    period_s: float

    async def fetch_changes(self, offered: Collection[SpotOffering], since: float) -> list[SpotPriceChange]:
        """All changes since then (Unix seconds), and of each offering the last one before: the price in force then.
        There may be changes of other offerings among them. Raises CloudError."""
