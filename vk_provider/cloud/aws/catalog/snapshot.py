"""What AWS has said, and when: the catalog's memory, also between starts."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from vk_provider.cloud.aws.catalog.machines import Machine

VERSION: Final = 2
"""Of the form on disk: another one is not read."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """region: whose. The others are empty, and their times (Unix seconds) 0.0, until AWS has answered.

    zones:     zone -> the instance types that it has
    on_demand: instance type -> USD an hour
    spot:      zone -> instance type -> USD an hour
    """

    region: str
    version: int = VERSION
    machines: dict[str, Machine] = {}
    zones: dict[str, list[str]] = {}
    machines_at: float = 0.0
    on_demand: dict[str, float] = {}
    on_demand_at: float = 0.0
    spot: dict[str, dict[str, float]] = {}
    spot_at: float = 0.0
