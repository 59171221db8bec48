"""The provider process: its start can be interrupted, and what fails on the way does not end it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from vk_provider import app
from vk_provider.aiokit.supervisor import RootTaskError
from vk_provider.errors import BadStartError
from vk_provider.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "c.toml"
    path.write_text('[[nodes]]\nname = "n1"\naddress = "127.0.0.1"\n')
    return load_settings(path, {})


async def test_a_signal_ends_a_start_that_waits_for_the_cloud(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(self: app.Provider) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr(app.Provider, "start", start)
    assert await asyncio.wait_for(app._run(settings), 5.0) == 0


async def test_a_root_task_that_breaks_ends_a_start_that_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks() -> None:
        raise ValueError("broken watch")

    async def start(self: app.Provider) -> None:
        self.supervisor.start("pods", breaks())
        await asyncio.Event().wait()

    monkeypatch.setattr(app.Provider, "start", start)
    with pytest.raises(RootTaskError, match="broken watch"):
        await asyncio.wait_for(app._run(settings), 5.0)


async def test_a_bad_start_passes_through(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: app.Provider) -> None:
        raise BadStartError("port taken")

    monkeypatch.setattr(app.Provider, "start", start)
    with pytest.raises(BadStartError, match="port taken"):
        await asyncio.wait_for(app._run(settings), 5.0)
