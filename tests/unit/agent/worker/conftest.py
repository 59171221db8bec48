"""What the tests of the pod worker share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.agent.worker.workerrig import Rig, WorkerRig
from vk_provider.jsontypes import Json


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    made: list[WorkerRig] = []

    def make(pod: Json) -> WorkerRig:
        made.append(WorkerRig(pod, tmp_path, monkeypatch))
        return made[-1]

    yield make
    for each in made:
        await each.close()
