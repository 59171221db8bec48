"""One cluster of two kinds of nodes for all tests of this directory. VK_MIXED_KEEP=1 leaves it up for the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo import cluster
from tests.demo.environment import Environment
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from tests.mixed.world import MIXED, Mixed
from tests.ordering import sort_files

ORDER = ("test_services.py", "test_names.py", "test_policies.py", "test_rolling.py")
NAMESPACE = "mixed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this directory's tests: what changes things comes late."""
    sort_files(items, Path(__file__).parent, ORDER)


@pytest.fixture(scope="session")
def mixed() -> Iterator[Mixed]:
    """The cluster, its pods Ready; taken down at the end whatever happened."""
    keep = bool(os.environ.get("VK_MIXED_KEEP"))
    if Environment.load(MIXED.root) and not keep:
        cluster.down(MIXED)  # what a killed run has left
    try:
        nodeless = Nodeless(MIXED, cluster.up(MIXED))
        nodeless.kubectl("create", "namespace", NAMESPACE, check=False)
        nodeless.kubectl("delete", "networkpolicy", "--all", "-n", NAMESPACE)  # of a run that was killed
        account = ("get", "serviceaccount", "default", "-n", NAMESPACE)
        until("the namespace's service account", lambda: nodeless.kubectl(*account, check=False).returncode == 0)
        world = Mixed(nodeless, Namespace(nodeless, NAMESPACE))
        world.deploy()
        yield world
    finally:
        if Environment.load(MIXED.root) and not keep:
            cluster.down(MIXED)
