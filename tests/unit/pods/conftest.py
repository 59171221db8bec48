"""A world for each test, stopped at its end, and short times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vk_provider.instances import links, table
from vk_provider.pods import controller

from .rig import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "PENDING_STATUS_AFTER_S", 0.05)
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
