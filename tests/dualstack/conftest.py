"""One small cluster for all tests of this directory, of its own name and networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cache import cache_dir
from tests.demo import cluster
from tests.demo.environment import Environment
from tests.e2e.conftest import namespace
from tests.e2e.nodeless import Nodeless

__all__ = ["namespace"]


@pytest.fixture(scope="session")
def environment() -> Environment:
    return Environment(
        cache_dir() / "dualstack",
        name="dual",
        subnet="10.220.0.0/16",
        address="10.220.0.1",
        ipv6_subnet="fd00:220::/64",
        healthz_port=10848,
        more_nodes=("nodeless-2",),
        resolver=True,
        dns=True,
    )


@pytest.fixture(scope="session")
def nodeless(environment: Environment) -> Iterator[Nodeless]:
    """The cluster, up; taken down at the end whatever happened."""
    if Environment.load(environment.root):
        cluster.down(environment)  # what a killed run has left
    try:
        yield Nodeless(environment, cluster.up(environment))
    finally:
        if Environment.load(environment.root):
            cluster.down(environment)
