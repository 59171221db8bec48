"""Services over both kinds of nodes, from each of them: every client reaches what it would on two real kubelets."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.demo.environment import NODE
from tests.mixed.world import KUBELET, NODES, PORTS, TARGETS, TCP, TRIES, UDP, Mixed, pods_on

pytestmark = pytest.mark.real

CLIENTS = [*pods_on("client"), *pods_on("host")]
PODS = pods_on("client")
PROTOCOLS = (TCP, UDP)
BOTH = set(pods_on("web"))
OTHER = {NODE: KUBELET, KUBELET: NODE}

every_client = pytest.mark.parametrize("client", CLIENTS)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
every_node = pytest.mark.parametrize("node", NODES)


def ask_outside(address: str, port: int) -> str:
    """What a client outside the cluster, this machine, gets: the server's name, "" for nothing within 3 s."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/hostname", timeout=3) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


@every_client
@every_protocol
@every_node
def test_a_pods_address_is_reached(mixed: Mixed, client: str, protocol: str, node: str) -> None:
    answers = mixed.dial(client, mixed.pod_ip(f"web-{node}"), TARGETS[protocol], protocol, tries=3)
    assert answers.responses == (f"web-{node}",) * 3


@every_client
@every_protocol
def test_a_cluster_ip_reaches_the_endpoints_of_both_nodes(mixed: Mixed, client: str, protocol: str) -> None:
    assert mixed.dial(client, mixed.cluster_ip("web"), PORTS[protocol], protocol, tries=TRIES).kinds == BOTH


@every_client
@every_protocol
@every_node
def test_a_node_port_of_either_node_reaches_the_endpoints_of_both(
    mixed: Mixed, client: str, protocol: str, node: str
) -> None:
    port = mixed.node_port("web", protocol)
    assert mixed.dial(client, mixed.node_addresses[node], port, protocol, tries=TRIES).kinds == BOTH


@every_node
def test_a_node_port_is_reached_from_outside(mixed: Mixed, node: str) -> None:
    port = mixed.node_port("web")
    assert {ask_outside(mixed.node_addresses[node], port) for _ in range(TRIES)} == BOTH


@every_client
@every_protocol
def test_endpoints_on_the_host_networks_of_both_nodes_are_reached(mixed: Mixed, client: str, protocol: str) -> None:
    answers = mixed.dial(client, mixed.cluster_ip("hosted"), PORTS[protocol], protocol, tries=TRIES)
    assert not answers.errors
    assert len(answers.kinds) == 2


@pytest.mark.parametrize("client", PODS)
@every_protocol
@every_node
def test_a_server_sees_the_address_of_the_pod_that_asks(mixed: Mixed, client: str, protocol: str, node: str) -> None:
    for host, port in ((mixed.pod_ip(f"web-{node}"), TARGETS), (mixed.cluster_ip(f"only-{node}"), PORTS)):
        answers = mixed.dial(client, host, port[protocol], protocol, request="clientip")
        assert {each.rpartition(":")[0].strip("[]") for each in answers.kinds} == {mixed.pod_ip(client)}


@every_protocol
@every_node
def test_a_pod_reaches_itself_through_its_service(mixed: Mixed, protocol: str, node: str) -> None:
    itself, service = f"web-{node}", f"only-{node}"
    answers = mixed.dial(itself, mixed.cluster_ip(service), PORTS[protocol], protocol, tries=3)
    assert answers.responses == (itself,) * 3


@every_protocol
@every_node
@pytest.mark.parametrize("through", NODES)
def test_a_pod_reaches_itself_through_a_node_port_of_either_node(
    mixed: Mixed, protocol: str, node: str, through: str
) -> None:
    itself, port = f"web-{node}", mixed.node_port(f"only-{node}", protocol)
    answers = mixed.dial(itself, mixed.node_addresses[through], port, protocol, tries=3)
    assert answers.responses == (itself,) * 3


@every_client
@every_protocol
def test_an_internal_policy_of_local_means_the_clients_node(mixed: Mixed, client: str, protocol: str) -> None:
    answers = mixed.dial(client, mixed.cluster_ip("near"), PORTS[protocol], protocol, tries=8)
    assert answers.kinds == {f"web-{client.partition('-')[2]}"}


@every_client
@every_protocol
@every_node
def test_an_external_policy_of_local_leaves_a_client_elsewhere_the_nodes_own_endpoints(
    mixed: Mixed, client: str, protocol: str, node: str
) -> None:
    """A client on the node itself is short-circuited to all endpoints, as kube-proxy does it."""
    port = mixed.node_port("local", protocol)
    answers = mixed.dial(client, mixed.node_addresses[node], port, protocol, tries=TRIES)
    assert answers.kinds == (BOTH if client.endswith(f"-{node}") else {f"web-{node}"})


@every_node
def test_an_external_policy_of_local_shows_the_server_who_asks_from_the_other_node(mixed: Mixed, node: str) -> None:
    client = f"client-{OTHER[node]}"
    answers = mixed.dial(client, mixed.node_addresses[node], mixed.node_port("local"), request="clientip")
    assert {each.rpartition(":")[0].strip("[]") for each in answers.kinds} == {mixed.pod_ip(client)}


@every_node
def test_a_node_without_endpoints_of_an_external_policy_of_local_gives_no_answer(mixed: Mixed, node: str) -> None:
    port = mixed.node_port(f"local-{OTHER[node]}")
    assert mixed.dial(f"client-{OTHER[node]}", mixed.node_addresses[node], port).responses == ()
    assert mixed.dial(f"client-{node}", mixed.node_addresses[node], port).responses == (f"web-{OTHER[node]}",)


@every_client
@every_protocol
def test_a_client_with_affinity_stays_with_one_endpoint(mixed: Mixed, client: str, protocol: str) -> None:
    answers = mixed.dial(client, mixed.cluster_ip("sticky"), PORTS[protocol], protocol, tries=TRIES)
    assert len(answers.kinds) == 1 and answers.kinds < BOTH


@pytest.mark.parametrize("client", PODS)
@every_node
def test_a_client_with_affinity_stays_with_one_endpoint_at_each_node_port(mixed: Mixed, client: str, node: str) -> None:
    answers = mixed.dial(client, mixed.node_addresses[node], mixed.node_port("sticky"), tries=TRIES)
    assert len(answers.kinds) == 1 and answers.kinds < BOTH
