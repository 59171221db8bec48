from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ec2.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server and a booter of this file's own; nothing is left of either."""
    made = World(tmp_path_factory.mktemp("ec2"), "ec2t", "10.219.0.0/16")
    try:
        made.up()
        yield made
    finally:
        made.down()
