"""The Nodes as the cluster sees them."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.e2e.manifest import container, pod
from tests.e2e.nodeless import Namespace, Nodeless, restarts
from tests.e2e.until import until

pytestmark = pytest.mark.real

TAINT = "virtual-kubelet.io/provider"


def test_two_nodes_of_one_provider_are_ready_and_tainted(nodeless: Nodeless) -> None:
    for name in nodeless.nodes:
        nodeless.wait_node_ready(name)
        node = nodeless.get("node", name)
        assert [taint["key"] for taint in node["spec"]["taints"]] == [TAINT]
        assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.")
        assert node["status"]["allocatable"]["pods"] in ("5k", "5000")


def test_each_node_runs_and_serves_the_pods_bound_to_it(namespace: Namespace, nodeless: Nodeless) -> None:
    for name in nodeless.nodes:
        namespace.apply(pod(f"on-{name}", container(nodeless.image), nodeName=name))
    for name in nodeless.nodes:
        namespace.wait_ready(f"on-{name}")
        assert namespace.execute(f"on-{name}", "hostname").stdout == f"on-{name}\n"
    assert (
        nodeless.get("node", nodeless.nodes[0])["status"]["daemonEndpoints"]
        != (nodeless.get("node", nodeless.nodes[1])["status"]["daemonEndpoints"])
    )


def test_the_lease_is_renewed(nodeless: Nodeless) -> None:
    def renewed() -> datetime:
        return datetime.fromisoformat(nodeless.get("lease", nodeless.node, "kube-node-lease")["spec"]["renewTime"])

    first = renewed()
    assert nodeless.get("lease", nodeless.node, "kube-node-lease")["spec"]["holderIdentity"] == nodeless.node
    until("the Lease is renewed", lambda: renewed() > first, 40)


def test_a_pod_without_toleration_comes_when_the_taint_is_taken_off(namespace: Namespace, nodeless: Nodeless) -> None:
    namespace.apply(pod("plain", container(nodeless.image), tolerations=[]))
    unschedulable = namespace.wait_event("plain", "FailedScheduling")
    assert "untolerated taint" in unschedulable["message"]
    nodeless.kubectl("taint", "node", nodeless.node, f"{TAINT}-")
    try:
        namespace.wait_ready("plain")
    finally:
        nodeless.kubectl("taint", "node", nodeless.node, f"{TAINT}=vk-provider:NoSchedule", "--overwrite")


def test_a_node_that_somebody_deletes_comes_back_and_keeps_its_pods(namespace: Namespace, nodeless: Nodeless) -> None:
    name = nodeless.nodes[1]
    namespace.wait_ready(f"on-{name}")
    before = namespace.pod(f"on-{name}")["metadata"]["uid"]
    old = nodeless.get("node", name)["metadata"]["uid"]
    nodeless.kubectl("delete", "node", name, "--wait=false")

    def new_node() -> bool:
        found = nodeless.kubectl("get", "node", name, "-o", "json", check=False)
        return found.returncode == 0 and json.loads(found.stdout)["metadata"]["uid"] != old

    until("the Node is registered again", new_node)
    nodeless.wait_node_ready(name)
    kept = namespace.wait_ready(f"on-{name}")[0]
    assert (kept["metadata"]["uid"], restarts(kept)) == (before, 0)
    namespace.execute(f"on-{name}", "true")
