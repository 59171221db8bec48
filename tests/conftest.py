"""Fixtures that every test may ask for, and the event loop that it runs on."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.cluster.fixtures import control_plane

__all__ = ["control_plane"]

HERE = Path(__file__).parent
AGENT = {"asyncio": asyncio.SelectorEventLoop}
PROVIDER = {"uvloop": uvloop.new_event_loop}
ROOMS = {"unit/agent": AGENT, "integration/agent": AGENT, "unit/aiokit": PROVIDER | AGENT}
"""The provider runs on uvloop, the agent on asyncio's own loop; what both use is tested on either."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the process that the tested room belongs to."""
    room = item.path.relative_to(HERE).as_posix()
    return next((loops for prefix, loops in ROOMS.items() if room.startswith(f"{prefix}/")), PROVIDER)
