"""All that a real cloud does to its callers, at once: pods come and go, the provider dies in between, and in the end
each pod runs on one instance of its own and no instance is left over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.pods.rig import World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.settings import SimulatedFaults
from vk_provider.errors import CloudError
from vk_provider.instances import calls, ends, links, missing, pace, table, tagging
from vk_provider.jsontypes import Json
from vk_provider.pods import controller, executor

PODS = 24


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.05)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.02)
    monkeypatch.setattr(table, "NEW_S", 0.3)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(pace, "MAX_PAUSE_S", 0.2)
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(calls, "RETRY_MAX_S", 0.1)
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(ends, "RETRY_MAX_S", 0.1)
    monkeypatch.setattr(ends, "FIRST_TRY_S", 0.2)
    monkeypatch.setattr(tagging, "DELAY_S", 0.05)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 1.0)
    monkeypatch.setattr(missing, "MASS_CONFIRM_S", 2.0)
    monkeypatch.setattr(controller, "PENDING_STATUS_AFTER_S", 0.05)
    monkeypatch.setattr(executor, "ARCHIVE_TRIES", 1)


def faults_of(seed: int) -> SimulatedFaults:
    return SimulatedFaults(
        seed=seed,
        call_burst=20,
        call_rate=100.0,
        resource_burst=20,
        resource_rate=100.0,
        capacity=4,
        max_instances=2 * PODS,
        lost_answers=0.2,
        late_answers=0.2,
        late_s=0.05,
        listing_lag_s=0.2,
        missing_share=0.05,
        failed_boots=0.05,
        slow_boots=0.2,
        slow_boot_s=0.2,
        shutdown_s=0.05,
        unterminable=0.2,
    )


class Watch:
    """No pod's containers ever run on two instances."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.doubles: set[str] = set()

    def look(self) -> None:
        agents = self._world.connector._agents.values()
        served = Counter(agent.uid for agent in agents if agent.uid and not agent.finished)
        self.doubles |= {uid for uid, count in served.items() if count > 1}

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("seed", range(6))
async def test_every_pod_runs_once_and_nothing_is_left(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    world = World(tmp_path, SimulationConfig(faults=faults_of(seed)))
    world.boot_timeout_s = 1.5
    world.node = {"metadata": {"labels": {}}, "status": {"allocatable": {"cpu": "999", "pods": "999"}}}
    await restart(world)
    watch = Watch(world)
    watching = asyncio.create_task(watch.run())
    pods: list[Json] = []
    for _ in range(PODS):
        pod = world.pod()
        pod["metadata"]["labels"] = {"app": draw.choice("abc")}
        pods.append(world.api.add(pod))
        if draw.random() < 0.2:
            await asyncio.sleep(draw.uniform(0.0, 0.1))
        if draw.random() < 0.2:
            gone = pods.pop(draw.randrange(len(pods)))
            (world.api.mark_deleting if draw.random() < 0.7 else world.api.remove)(gone)
        if draw.random() < 0.15:
            await world.crash()
            await restart(world)

    def settled() -> bool:
        phases = Counter(world.api.status(pod).get("phase") for pod in pods)
        return phases["Running"] + phases["Failed"] == len(pods) and len(world.api.pods) == len(pods)

    await world.until(settled, 30.0)
    failed = [pod for pod in pods if world.api.status(pod).get("phase") == "Failed"]
    reasons = {world.api.status(pod).get("reason") for pod in failed}
    assert reasons <= {"InstanceBootFailed"}, (
        f"three boots of a pod may fail; nothing else ends one: {told(world, failed)}"
    )
    assert len(failed) <= 1
    for pod in list(pods):
        (world.api.mark_deleting if draw.random() < 0.7 else world.api.remove)(pod)
    await world.until(lambda: not world.api.pods and not world.controller.records, 30.0)
    await swept(world)
    assert watch.doubles == set()
    await world.until(lambda: not world.room.table.owned and not world.room.supply.unclaimed, 10.0)
    assert len(world.room.waiting.groups) == 0 and list(world.room.waiting.groups) == []
    watching.cancel()
    await world.stop()


def told(world: World, pods: list[Json]) -> list[str]:
    return [f"{world.api.status(pod).get('reason')}: {world.api.status(pod).get('message')}" for pod in pods]


async def restart(world: World) -> None:
    """Its first calls are throttled, too."""
    while True:
        try:
            await world.start()
            return
        except CloudError:
            await asyncio.sleep(0.05)


async def swept(world: World) -> None:
    sweep = make_sweep(world)
    async with asyncio.timeout(30.0):
        while world.live():
            await asyncio.sleep(0.05)
            try:
                await sweep.sweep()
            except CloudError:
                sweep._rule.reset()
