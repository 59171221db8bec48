"""Offerings with their prices, and where each price comes from: for people, and for bills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vk_provider.cloud.base import Offering


@dataclass(frozen=True, slots=True)
class PriceRow:
    """source: in a few words, such as "spot price history"; priced_at: Unix seconds at which the price was true, 0.0
    where it has no time."""

    offering: Offering
    source: str
    priced_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PriceList:
    """rows: cheapest first. notes: sentences on how old and how complete they are."""

    rows: Sequence[PriceRow]
    notes: tuple[str, ...] = ()
