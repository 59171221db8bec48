"""Network policies of a nodeless pod whose peers are pods of the other node. The kubelet's own pods have nobody who
enforces one there: its node has kube-proxy and a bridge.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.environment import NODE
from tests.e2e.manifest import network_policy, pods_of
from tests.e2e.until import until
from tests.mixed.world import KUBELET, ON_HOST, PORTS, TARGETS, TCP, Mixed, make_service

pytestmark = pytest.mark.real

CHANGE_S = 15
"""For a change of a policy or label to be in force; it takes a fraction of it."""
HIDDEN_PORTS = {"http": 28080, "udp": 28081}


@pytest.fixture(scope="module")
def guarded(mixed: Mixed) -> Iterator[Mixed]:
    """`guarded` on our Node lets in `friend`s of the other node; `caged` may go to `friend` alone."""
    space = mixed.namespace
    names = ("guarded", "caged", "friend", "stranger")
    objects = (
        network_policy(
            "guarded", "guarded", ingress=[{"from": [pods_of("friend")], "ports": [{"port": TARGETS[TCP]}]}]
        ),
        network_policy("caged", "caged", policyTypes=["Egress"], egress=[{"to": [pods_of("friend")]}]),
        make_service("guarded", {"app": "guarded"}, type="NodePort"),
        make_service("friend", {"app": "friend"}),
        make_service("stranger", {"app": "stranger"}),
    )
    space.apply(*objects)
    space.apply(
        mixed.server("guarded", NODE),
        mixed.server("caged", NODE),
        mixed.server("friend", KUBELET),
        mixed.server("stranger", KUBELET),
    )
    try:
        space.wait_ready(*names)
        for service in ("guarded", "friend", "stranger"):
            mixed.wait_endpoints(service, 1)
        mixed.wait_answers("friend", mixed.cluster_ip("guarded"), PORTS[TCP])
        yield mixed
    finally:
        space.kubectl("delete", "networkpolicy", "--all")
        space.kubectl("delete", "service", "guarded", "friend", "stranger")
        space.kubectl("delete", "pod", *names, "--grace-period=1")


def reaches(mixed: Mixed, client: str, host: str, port: int) -> bool:
    return bool(mixed.dial(client, host, port).responses)


def test_ingress_from_a_pod_of_the_other_node_is_judged_by_its_labels(guarded: Mixed) -> None:
    targets = ((guarded.pod_ip("guarded"), TARGETS[TCP]), (guarded.cluster_ip("guarded"), PORTS[TCP]))
    for host, port in targets:
        assert reaches(guarded, "friend", host, port)
        assert not reaches(guarded, "stranger", host, port)


def test_a_pod_of_the_other_node_is_still_itself_behind_our_node_port(guarded: Mixed) -> None:
    """What arrives by a port of our Node under the policy Cluster has an address of the Node: it is nobody's friend."""
    port = guarded.node_port("guarded")
    assert not reaches(guarded, "stranger", guarded.node_addresses[NODE], port)


def test_egress_to_pods_of_the_other_node_is_judged_behind_their_service(guarded: Mixed) -> None:
    for name, allowed in (("friend", True), ("stranger", False)):
        assert reaches(guarded, "caged", guarded.pod_ip(name), TARGETS[TCP]) is allowed
        assert reaches(guarded, "caged", guarded.cluster_ip(name), PORTS[TCP]) is allowed


def test_the_host_network_of_the_other_node_is_let_in_by_its_address(guarded: Mixed) -> None:
    host, port = guarded.pod_ip("guarded"), TARGETS[TCP]
    client = f"host-{KUBELET}"
    assert not reaches(guarded, client, host, port)
    block = {"ipBlock": {"cidr": f"{guarded.node_addresses[KUBELET]}/32"}}
    guarded.namespace.apply(network_policy("node", "guarded", ingress=[{"from": [block]}]))
    until("the node's address is let in", lambda: reaches(guarded, client, host, port), CHANGE_S)
    assert not reaches(guarded, "stranger", host, port)
    guarded.namespace.kubectl("delete", "networkpolicy", "node")
    until("the node's address is shut out", lambda: not reaches(guarded, client, host, port), CHANGE_S)


def test_a_pod_of_the_other_node_that_changes_its_labels_changes_sides(guarded: Mixed) -> None:
    host, port = guarded.pod_ip("guarded"), TARGETS[TCP]
    for label, allowed in (("app=friend", True), ("app=stranger", False)):
        guarded.namespace.kubectl("label", "pod", "stranger", label, "--overwrite")

        def holds(wanted: bool = allowed) -> bool:
            return reaches(guarded, "stranger", host, port) is wanted

        until(f"{label} counts", holds, CHANGE_S)


def test_a_policy_guards_no_pod_on_a_host_network(guarded: Mixed) -> None:
    """Kubernetes leaves it open; here they have their node's address, so no selector finds them."""
    guarded.namespace.apply(
        guarded.server("open", NODE, HIDDEN_PORTS, labels={"app": "guarded", "open": "yes"}, **ON_HOST)
    )
    guarded.namespace.wait_ready("open")
    assert reaches(guarded, "stranger", guarded.pod_ip("open"), HIDDEN_PORTS[TCP])
    guarded.namespace.kubectl("delete", "pod", "open", "--grace-period=1")
