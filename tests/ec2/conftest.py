from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cache import cache_dir
from tests.demo import cluster
from tests.demo.environment import Environment
from tests.e2e.nodeless import Namespace
from tests.e2e.until import until
from tests.ec2.cluster import Ec2Cluster
from tests.ec2.world import World
from tests.ordering import sort_files

ORDER = ("test_boot.py", "test_pods.py")
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this directory's tests, leave all others where they are."""
    sort_files(items, Path(__file__).parent, ORDER)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server and a booter of this file's own; nothing is left of either."""
    made = World(tmp_path_factory.mktemp("ec2"), "ec2t", "10.219.0.0/17")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def nodeless() -> Iterator[Ec2Cluster]:
    """A cluster with the provider on the backend `aws`; taken down at the end whatever happened."""
    environment = Environment(
        cache_dir() / "ec2",
        name="ec2c",
        cloud="aws",
        subnet="10.219.128.0/17",
        address="10.219.128.1",
        healthz_port=10448,
        moto_port=5577,
        resolver=True,
    )
    if Environment.load(environment.root):
        cluster.down(environment)  # what a killed run has left
    try:
        yield Ec2Cluster(environment, cluster.up(environment))
    finally:
        if Environment.load(environment.root):
            cluster.down(environment)


@pytest.fixture(scope="module")
def namespace(nodeless: Ec2Cluster) -> Iterator[Namespace]:
    """A namespace of the test file's own."""
    name = f"ec2-{os.getpid()}-{next(_numbers)}"
    nodeless.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", "-n", name)
    until("the namespace's service account", lambda: nodeless.kubectl(*account, check=False).returncode == 0)
    yield Namespace(nodeless, name)
    nodeless.kubectl("delete", "namespace", name, "--wait=false", check=False)
    nodeless.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false", check=False)
    until("no instance is left", lambda: not nodeless.instances.live(), explain=nodeless.describe_instances)
