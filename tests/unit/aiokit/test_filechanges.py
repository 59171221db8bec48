"""Files that are replaced, removed and unusable for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vk_provider.aiokit import filechanges
from vk_provider.aiokit.filechanges import FileChanges


async def test_a_change_is_told_until_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filechanges, "CHECK_S", 0.001)
    first, second = tmp_path / "tls.crt", tmp_path / "tls.key"
    first.write_text("1")
    changes = FileChanges([first, second])  # the second does not exist yet
    told: asyncio.Queue[bool] = asyncio.Queue()

    def take() -> bool:
        told.put_nowait(second.exists())
        return second.exists()

    task = asyncio.create_task(changes.run(take))
    try:
        await asyncio.sleep(0.02)
        assert told.empty(), "told although nothing has changed"
        replacement = tmp_path / "replacement"
        replacement.write_text("2")
        replacement.replace(first)
        async with asyncio.timeout(30):
            assert [await told.get() for _ in range(3)] == [False] * 3
            second.write_text("2")
            while not await told.get():
                pass
        await asyncio.sleep(0.02)
        assert told.empty(), "told again although it was taken"
        second.unlink()
        async with asyncio.timeout(30):
            assert await told.get() is False
    finally:
        task.cancel()
