"""One cluster for all tests of this directory. The order of the files matters: what breaks things comes late."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cache import cache_dir
from tests.demo import cluster
from tests.demo.environment import Environment
from tests.e2e.leaks import list_files, read_host_rules
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from tests.ordering import sort_files

ORDER = (
    "test_pod_life.py",
    "test_streams.py",
    "test_recorded.py",
    "test_limits.py",
    "test_refusals.py",
    "test_preemption.py",
    "test_shared_paths.py",
    "test_statuses.py",
    "test_volumes.py",
    "test_features.py",
    "test_policies.py",
    "test_node.py",
    "test_services.py",
    "test_metrics.py",
    "test_dns.py",
    "test_net_explain.py",
    "test_secrecy.py",
    "test_boundary.py",
    "test_start.py",
    "test_deaths.py",
    "test_restart.py",
    "test_outage.py",
    "test_crash.py",
    "test_down.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this directory's tests, leave all others where they are."""
    sort_files(items, Path(__file__).parent, ORDER)


@pytest.fixture(scope="session")
def environment() -> Environment:
    """Addresses and names that do not meet those of a demo on the same machine."""
    return Environment(
        cache_dir() / "e2e",
        name="e2e",
        subnet="10.207.0.0/16",
        address="10.207.0.1",
        healthz_port=10348,
        more_nodes=("nodeless-2",),
        shared_host_paths=("/tmp/shared",),
        daemonsets="app in (exporter)",
        agent_monitor_grace_s=10.0,
        resolver=True,
    )


@pytest.fixture(scope="session")
def files_before() -> set[str]:
    """What lies where nothing of ours should, before anything was started."""
    return list_files()


@pytest.fixture(scope="session")
def rules_before() -> str:
    """The host's firewall, before anything was started."""
    return read_host_rules()


@pytest.fixture(scope="session")
def nodeless(environment: Environment, files_before: set[str], rules_before: str) -> Iterator[Nodeless]:
    """The cluster, up; taken down at the end whatever happened. VK_E2E_KEEP=1 leaves it up and takes it again."""
    keep = bool(os.environ.get("VK_E2E_KEEP"))
    if Environment.load(environment.root) and not keep:
        cluster.down(environment)  # what a killed run has left
    try:
        yield Nodeless(environment, cluster.up(environment))
    finally:
        if Environment.load(environment.root) and not keep:
            cluster.down(environment)


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def namespace(nodeless: Nodeless, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test file's own; its pods are gone before the next file begins."""
    name = f"{Path(request.node.name).stem.removeprefix('test_').replace('_', '-')}-{os.getpid()}-{next(_numbers)}"
    nodeless.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", "-n", name)
    until("the namespace's service account", lambda: nodeless.kubectl(*account, check=False).returncode == 0)
    try:
        yield Namespace(nodeless, name)
    finally:
        nodeless.kubectl("delete", "namespace", name, "--wait=false", check=False)
        # Not left to the namespace controller, which takes its time; nothing new can come any more.
        nodeless.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false", check=False)
        until(
            "no instance of the namespace is left",
            lambda: (
                not [
                    item
                    for item in nodeless.instances.live()
                    if item.record.tags.get("vk-provider/pod-namespace") == name
                ]
            ),
        )
