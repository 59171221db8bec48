"""Names, asked by pods of both kinds of nodes; CoreDNS runs on nodeless instances."""

from __future__ import annotations

import json

import pytest

from tests.cluster import dns
from tests.cluster.state import CLUSTER_DNS
from tests.demo.environment import NODE
from tests.mixed.test_services import BOTH, every_client, every_node, every_protocol
from tests.mixed.world import NODES, PORTS, TARGETS, TRIES, Mixed

pytestmark = pytest.mark.real


def test_cluster_dns_runs_on_nodeless_instances(mixed: Mixed) -> None:
    query = ("-n", dns.NAMESPACE, "get", "pods", "-l", "k8s-app=kube-dns", "-o", "json")
    pods = json.loads(mixed.nodeless.kubectl(*query).stdout)["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}


@every_client
def test_every_pod_asks_the_cluster_dns_address(mixed: Mixed, client: str) -> None:
    assert f"nameserver {CLUSTER_DNS}" in mixed.namespace.execute(client, "cat /etc/resolv.conf").stdout.splitlines()


@every_client
@every_protocol
@pytest.mark.parametrize("form", ["web", "web.mixed", "web.mixed.svc", "web.mixed.svc.cluster.local"])
def test_a_services_name_reaches_the_endpoints_of_both_nodes(
    mixed: Mixed, client: str, protocol: str, form: str
) -> None:
    assert mixed.dial(client, form, PORTS[protocol], protocol, tries=TRIES).kinds == BOTH


@every_client
def test_a_headless_service_has_the_pods_of_both_nodes(mixed: Mixed, client: str) -> None:
    assert mixed.lookup(client, "peers.mixed.svc.cluster.local.") == {mixed.pod_ip(f"web-{node}") for node in NODES}


@every_client
@every_protocol
@every_node
def test_a_pod_of_a_headless_service_is_reached_by_its_own_name(
    mixed: Mixed, client: str, protocol: str, node: str
) -> None:
    answers = mixed.dial(client, f"web-{node}.peers", TARGETS[protocol], protocol, tries=2)
    assert answers.responses == (f"web-{node}",) * 2
