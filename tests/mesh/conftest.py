"""One cluster with Istio and the pods of manifests/istio/app.yaml for all tests of this directory.

The tests share its services, so each takes away what it has changed about them. VK_MESH_KEEP=1 leaves the cluster up
and takes it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cache import cache_dir
from tests.cluster.istio.installation import Istio
from tests.demo import cluster
from tests.demo.environment import Environment, mesh_environment
from tests.e2e.nodeless import Nodeless
from tests.mesh.world import Mesh
from tests.ordering import sort_files

ORDER = (
    "test_injection.py",
    "test_identity.py",
    "test_traffic.py",
    "test_gateway.py",
    "test_failures.py",
    "test_egress.py",
    "test_lifecycle.py",
    "test_status.py",
    "test_unmodified.py",
    "test_load.py",
)


FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this directory's tests: what breaks things comes late."""
    sort_files(items, Path(__file__).parent, ORDER)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> dict[str, str]:
    """What tests have measured (name -> words), printed at the end of the run."""
    return request.config.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(FIGURES, {})
    if found:
        terminalreporter.section("figures")
    for name, words in found.items():
        terminalreporter.write_line(f"{name}: {words}")


@pytest.fixture(scope="session")
def environment() -> Environment:
    """Addresses and names that do not meet those of a demo, or of the other tests, on the same machine."""
    return mesh_environment(cache_dir() / "mesh", "mesh", "10.209.0.0/16", "10.209.0.1", healthz_port=10349)


@pytest.fixture(scope="session")
def mesh(environment: Environment) -> Iterator[Mesh]:
    """The mesh, its pods Ready; taken down at the end whatever happened."""
    keep = bool(os.environ.get("VK_MESH_KEEP"))
    if Environment.load(environment.root) and not keep:
        cluster.down(environment)  # what a killed run has left
    try:
        plane = cluster.up(environment)
        istio = Istio(plane, environment.registry, environment.root / "istio")
        istio.install()
        world = Mesh(Nodeless(environment, plane), istio)
        world.deploy()
        yield world
    finally:
        if Environment.load(environment.root) and not keep:
            cluster.down(environment)
