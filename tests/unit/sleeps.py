"""Time that code under test sleeps, without anybody waiting."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest


def record_sleeps(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[float]:
    """`asyncio.sleep`, as `module` sees it, only gives others a turn; returns the list of the seconds asked for."""
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        await real_sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return slept
