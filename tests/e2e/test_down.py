"""Down leaves nothing behind, and a second up works. The last tests: the cluster is gone after them."""

from __future__ import annotations

import pytest

from tests.demo import cluster
from tests.demo.environment import Environment
from tests.e2e.leaks import find_processes, find_traces, list_files, read_host_rules, surviving, take_footprint
from tests.e2e.manifest import container, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until

pytestmark = pytest.mark.real


def run_a_pod(nodeless: Nodeless, name: str) -> None:
    default = Namespace(nodeless, "default")
    default.apply(pod(name, container(nodeless.image)))
    default.wait_ready(name)


def require_nothing_left(environment: Environment, files_before: set[str]) -> None:
    footprint = take_footprint(environment)
    assert len(footprint.processes) > 8, "the footprint misses the cluster's processes"
    assert len(footprint.traces) > 3, "the footprint misses interface, namespace and control groups"
    cluster.down(environment)
    until("every process is gone", lambda: not surviving(footprint), 15, explain=lambda: surviving(footprint))
    assert find_traces(environment) == []
    assert find_processes(environment) == set()
    assert not environment.root.exists()
    # Named namespaces are among the traces above; here are also those of other clusters that came up meanwhile.
    added = [path for path in list_files() - files_before if not path.startswith("/run/netns/")]
    ours = [path for path in added if "vk" in path or environment.name in path]
    assert ours == [], "files outside the cache"


def test_the_hosts_firewall_and_switches_are_what_they_were(nodeless: Nodeless, rules_before: str) -> None:
    """With instances running, after all that the tests before have done."""
    run_a_pod(nodeless, "firewall")
    assert read_host_rules() == rules_before


def test_down_leaves_nothing_on_the_machine(nodeless: Nodeless, files_before: set[str]) -> None:
    run_a_pod(nodeless, "last")
    require_nothing_left(nodeless.environment, files_before)


def test_down_again_is_fine(environment: Environment) -> None:
    cluster.down(environment)


def test_a_second_up_works_and_down_cleans_up_after_a_crash_of_everything(
    environment: Environment, files_before: set[str]
) -> None:
    nodeless = Nodeless(environment, cluster.up(environment))
    run_a_pod(nodeless, "again")
    nodeless.kill_provider()
    nodeless.plane.stop("kube-apiserver")
    require_nothing_left(environment, files_before)
