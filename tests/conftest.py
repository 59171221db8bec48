"""Fixtures that every test may ask for, and the event loop that it runs on."""

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import uvloop

from tests.cluster.fixtures import control_plane

__all__ = ["control_plane"]

SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=SLOW)  # on a busy machine
hypothesis.settings.load_profile("patient")

HERE = Path(__file__).parent
AGENT = {"asyncio": asyncio.SelectorEventLoop}
PROVIDER = {"uvloop": uvloop.new_event_loop}
ROOMS = {"unit/agent": AGENT, "integration/agent": AGENT, "unit/aiokit": PROVIDER | AGENT}
"""The provider runs on uvloop, the agent on asyncio's own loop; what both use is tested on either."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the process that the tested room belongs to."""
    room = item.path.relative_to(HERE).as_posix()
    return next((loops for prefix, loops in ROOMS.items() if room.startswith(f"{prefix}/")), PROVIDER)


_unclosed: list[str] = []


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    """Note what a test has left open on uvloop, which warns when the loop is closed, after the test's own verdict."""
    text = str(warning_message.message)
    if issubclass(warning_message.category, ResourceWarning) and text.startswith("unclosed resource <"):
        _unclosed.append(f"{nodeid}: {text}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run whose tests left handles open has failed."""
    if _unclosed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _unclosed:
        terminalreporter.write_line(f"left open: {line}", red=True)
