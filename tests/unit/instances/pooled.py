"""A provider with pools of warm instances, in quick motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.pods.rig import World
from vk_provider.cloud.backend import CloudAbility
from vk_provider.cloud.base import Instance
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.instances import links, pace, pool, table, tagging
from vk_provider.jsontypes import Json
from vk_provider.settings import PoolSettings


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.05)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.0)
    monkeypatch.setattr(tagging, "DELAY_S", 0.01)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(pool, "QUIET_S", 0.05)


async def make_world(tmp_path: Path, *pools: PoolSettings, config: SimulationConfig | None = None) -> World:
    """On a cloud that stops instances and starts them again, if a pool asks for it."""
    world = World(tmp_path, config)
    world.pools = pools
    if any(each.state == "stopped" for each in pools):
        world.ability = CloudAbility(stops=True)
    await world.start()
    return world


def idle(world: World, pool: str = "small") -> list[Instance]:
    """Those of a pool that are ready."""
    return [
        owned.described
        for owned in world.room.supply.unclaimed.values()
        if owned.pool == pool and owned.said_uid == "" and owned.is_for_anybody
    ]


async def filled(world: World, count: int = 2, pool: str = "small") -> list[Instance]:
    await world.until(lambda: len(idle(world, pool)) == count)
    return idle(world, pool)


async def run_pod(world: World, namespace: str = "default", **spec: Any) -> Json:
    pod = world.pod(**spec)
    pod["metadata"]["namespace"] = namespace
    world.api.add(pod)
    await world.until(lambda: status_of(world, pod) == "Running")
    return pod


def status_of(world: World, pod: Json) -> str:
    return str(world.api.status(pod).get("phase"))


def value(world: World, name: str, **labels: str) -> float | None:
    return world.registry.get_sample_value(name, labels)
