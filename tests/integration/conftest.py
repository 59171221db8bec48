"""What tests of several rooms stand on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest


@pytest.fixture
def namespace() -> Iterator[tuple[str, ...]]:
    """A network namespace of the test's own: the command that enters it."""
    name = f"vktest-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield ("nsenter", f"--net=/run/netns/{name}")
    subprocess.run(["ip", "netns", "del", name], check=True)
