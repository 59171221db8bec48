"""The world of each file: a provider of its own on the session's control plane."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.hostile.world import World


@pytest.fixture(scope="module")
def world(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[World]:
    """A module that sets REDIAL_AT_ONCE has a provider that dials agents again at once after a violation."""
    module = request.module
    name = f"{Path(module.__file__).stem.replace('_', '-')}-{os.getpid()}"
    built = World(
        control_plane,
        tmp_path_factory.mktemp("world"),
        name,
        redial_at_once=getattr(module, "REDIAL_AT_ONCE", False),
    )
    try:
        built.start()
        yield built
    finally:
        built.stop()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """No attack goes on after its test, whatever became of it."""
    yield
    if "world" in request.fixturenames:
        world: World = request.getfixturevalue("world")
        world.call(world.remove_hostile())
