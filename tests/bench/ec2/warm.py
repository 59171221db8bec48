"""How long an instance takes until its agent greets: launched, started again after a stop, or running already.

The instances are sandboxes of this machine (tests.booter) with real agents: they boot in less time than EC2's, and what
EC2 itself needs for a launch or a start is missing. So the ratios are what an agent that has booted before is worth.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.figure import Figure, median_figure
from tests.e2e.until import until
from tests.ec2.world import World, greet

ROUNDS = 3


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="vk-warm-") as directory:
        world = World(Path(directory), "ec2w", "10.238.0.0/17")
        try:
            world.up()
            found = [asyncio.run(_measure_one(world)) for _ in range(ROUNDS + 1)][1:]  # the first one warms the caches
        finally:
            world.down()
    cold, stopped, running = ([each[number] for each in found] for number in range(3))
    return [
        median_figure("instance_cold_s", cold, "s", note="RunInstances to the agent's greeting"),
        median_figure("instance_stopped_s", stopped, "s", note="StartInstances to the agent's greeting"),
        median_figure("instance_running_s", running, "s", note="a new session with an agent that runs"),
        median_figure("stopped_ratio", _ratios(stopped, cold), "x cold"),
        median_figure("running_ratio", _ratios(running, cold), "x cold"),
    ]


def _ratios(warm: list[float], cold: list[float]) -> list[float]:
    return [one / other for one, other in zip(warm, cold, strict=True)]


async def _measure_one(world: World) -> tuple[float, float, float]:
    """Seconds of a launch, of a start, and of a session."""
    began = time.monotonic()
    with world.own(world.run_instance()) as instance_id:
        await greet(world, world.described(instance_id))
        cold_s = time.monotonic() - began
        running_s = await _time(world, instance_id, lambda: None)
        world.ec2.stop_instances(InstanceIds=[instance_id])
        until("the sandbox is stopped", lambda: not world.pid(instance_id), 30, 0.05)
        stopped_s = await _time(world, instance_id, lambda: world.ec2.start_instances(InstanceIds=[instance_id]))
    return cold_s, stopped_s, running_s


async def _time(world: World, instance_id: str, act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    await greet(world, world.described(instance_id), fresh=False)
    return time.monotonic() - began
