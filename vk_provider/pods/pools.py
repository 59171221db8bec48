"""The pools of the settings, as `instances` keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vk_provider.cloud.base import Offering
from vk_provider.errors import BadStartError
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.settings import PoolSettings, Settings, WindowSettings
from vk_provider.settings.pool import DAYS
from vk_provider.sizing.pool import PoolSpec, Window, select_for_pool
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import Refusal


def build_pools(
    settings: Settings, offerings: Sequence[Offering], preferences: Mapping[str, Preferences]
) -> tuple[PoolSpec, ...]:
    """Raises BadStartError for a pool that the cloud has no offering for."""
    pools = []
    for pool in settings.pools:
        node = pool.node or settings.nodes[0].name
        spec = _build(pool, node, preferences[node].base_disk_bytes)
        selection = select_for_pool(spec, offerings, preferences[node])
        if isinstance(selection, Refusal):
            raise BadStartError(selection.message)
        pools.append(spec)
    return tuple(pools)


def _build(pool: PoolSettings, node: str, base_disk_bytes: int) -> PoolSpec:
    return PoolSpec(
        pool.name,
        node,
        pool.instance_type,
        math.ceil(parse_quantity(pool.cpu or "0") * 1000),
        math.ceil(parse_quantity(pool.memory or "0")),
        pool.zone,
        pool.capacity_type,
        base_disk_bytes + math.ceil(parse_quantity(pool.disk or "0")),
        pool.count,
        pool.max,
        pool.price_factor,
        tuple(_build_window(window) for window in pool.schedule),
        pool.state == "stopped",
    )


def _build_window(window: WindowSettings) -> Window:
    start, end = window.minutes()
    return Window(window.count, frozenset(DAYS.index(day) for day in window.days), start, end)
