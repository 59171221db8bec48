"""pytest fixture `control_plane`: a real control plane on loopback, started for the first test that asks for it.

Import it in a conftest: `from tests.cluster.fixtures import control_plane`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.process import start_time
from tests.cluster.state import StateDir

PREFIX = "vk-cluster-"
OWNER = "owner.json"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane on 127.0.0.1 for the whole session: .kubeconfig .kubectl() .kubectl_async() .url .ca .rest."""
    with running_control_plane("127.0.0.1") as plane:
        yield plane


@contextmanager
def running_control_plane(address: str) -> Iterator[ControlPlane]:
    """A control plane at `address` with free ports and a directory of its own; both are gone afterwards."""
    remove_abandoned(Path(tempfile.gettempdir()))
    root = Path(tempfile.mkdtemp(prefix=PREFIX))
    (root / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
    plane = ControlPlane(StateDir(root))
    try:
        plane.up(address)
        yield plane
    finally:
        plane.down()
        shutil.rmtree(root, ignore_errors=True)  # nothing was brought up: no marker, and down() kept it


def remove_abandoned(parent: Path) -> None:
    """Stop and remove what a test run that was killed has left below `parent`."""
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        try:
            known = json.loads(owner.read_text())
        except (OSError, ValueError):
            continue  # just being made, or just being removed
        if start_time(known["pid"]) != known["started"]:
            ControlPlane(StateDir(owner.parent)).down()
            shutil.rmtree(owner.parent, ignore_errors=True)
