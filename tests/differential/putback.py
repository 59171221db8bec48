"""Puts known faults back, one after the other, and plays the recorded cases that must find each, on our Node alone."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.demo import cluster
from tests.demo.environment import NODE, Environment
from tests.differential import mixed
from tests.differential.arena import Arena
from tests.differential.compare import compare
from tests.differential.faults import FAULTS, copy_with
from tests.differential.known import unexplained
from tests.differential.recording import read_recording

RECORDED = Path(__file__).parent / "recorded"
TRIES = 2
"""Of a case: what one run shows by chance, two do not miss."""

ENVIRONMENT = replace(
    mixed.DIFFERENTIAL,
    root=cache_dir() / "differential-faults",
    name="fault",
    subnet="10.213.0.0/16",
    address="10.213.0.1",
    healthz_port=10649,
    kubelet_node="",
    kubelet_network="",
)


def put_back(names: Sequence[str]) -> dict[str, list[str]]:
    """Name -> kinds of differences that were found with the fault, none where it was not found. The cluster is taken
    down at the end."""
    with tempfile.TemporaryDirectory(prefix="vk-faults-") as directory:
        try:
            plane = cluster.up(ENVIRONMENT)
            return {name: _find(ENVIRONMENT, plane, name, Path(directory)) for name in names}
        finally:
            cluster.down(ENVIRONMENT)


def down() -> None:
    """Take away what an interrupted run has left."""
    if known := Environment.load(ENVIRONMENT.root):
        cluster.down(known)


def _find(environment: Environment, plane: ControlPlane, name: str, directory: Path) -> list[str]:
    copy_with(FAULTS[name], directory)
    environment.provider.stop()
    # The working directory holds the package, too, without the fault.
    settings = {**environment.provider_environment(), "PYTHONPATH": str(directory), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "vk_provider", "run", "--config", str(environment.config_file)]
    environment.provider.start(command, settings)
    cluster.wait_ready(environment, plane)
    found = asyncio.run(_play(environment, plane, FAULTS[name].found_by))
    environment.provider.stop()
    print(f"{name}: {'found by ' + '; '.join(found) if found else 'NOT FOUND'}", flush=True)
    return found


async def _play(environment: Environment, plane: ControlPlane, cases: Sequence[str]) -> list[str]:
    async with Arena(plane, (NODE,), environment.registry, len(cases)) as arena:

        async def play(name: str) -> list[str]:
            case, recorded = read_recording(RECORDED / f"{name}.json", environment.registry)
            for _ in range(TRIES):
                if found := unexplained(compare(await arena.play_here(case), recorded)):
                    return [f"{name}: {difference.kind}" for difference in found]
            return []

        return [kind for kinds in await asyncio.gather(*(play(name) for name in cases)) for kind in kinds]
