"""Pods whose life on a real kubelet is recorded (tests/differential/recorded) live the same life here."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.differential.arena import Arena
from tests.differential.compare import compare
from tests.differential.difference import Difference
from tests.differential.known import unexplained
from tests.differential.recording import read_recording
from tests.e2e.nodeless import Nodeless

RECORDINGS = sorted((Path(__file__).parents[1] / "differential" / "recorded").glob("*.json"))
SLOTS = 6
Found = dict[str, list[Difference]]


@pytest.fixture(scope="module")
def played(nodeless: Nodeless) -> Found:
    """Every recorded case played, several at a time, and what is different and not on the list of known ones. What
    differs is played again: a kind counts when it comes twice."""

    async def play_all() -> Found:
        registry = nodeless.environment.registry
        async with Arena(nodeless.plane, (nodeless.node,), registry, SLOTS) as arena:

            async def differences(file: Path) -> list[Difference]:
                case, recorded = read_recording(file, registry)
                return unexplained(compare(await arena.play_here(case), recorded))

            async def one(file: Path) -> tuple[str, list[Difference]]:
                found = await differences(file)
                again = {item.kind for item in await differences(file)} if found else set()
                return file.stem, [item for item in found if item.kind in again]

            return dict(await asyncio.gather(*(one(file) for file in RECORDINGS)))

    return asyncio.run(play_all())


@pytest.mark.parametrize("name", [file.stem for file in RECORDINGS])
def test_a_pod_lives_as_it_did_on_a_kubelet(played: Found, name: str) -> None:
    assert not played[name], "\n" + "\n".join(map(str, played[name]))
