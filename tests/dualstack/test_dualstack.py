"""Pods, Services, ports of the Node, policies and names of both families: from pods, a hostNetwork pod, the machine."""

from __future__ import annotations

import ipaddress
from functools import partial

import pytest

from tests.e2e.manifest import SLEEP, container, network_policy, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.test_services import (
    CLIENTS,
    WEB,
    ask,
    ask_often,
    ask_once,
    make_service,
    node_port,
    until_answers,
)
from tests.e2e.until import until

pytestmark = pytest.mark.real

HOST_PORT = 18081
ADDRESSES = "echo $POD_IPS $HOST_IPS $POD_IP $HOST_IP; "
SERVERS = {"web-0", "web-1"}


@pytest.fixture(scope="module")
def cluster(namespace: Namespace, nodeless: Nodeless) -> Namespace:
    """A server on each Node, the second with a host port; a client; a client with its host's network; Services."""
    first, second = nodeless.nodes
    image = nodeless.image
    names = {"POD_IPS": "podIPs", "HOST_IPS": "hostIPs", "POD_IP": "podIP", "HOST_IP": "hostIP"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"status.{field}"}}} for name, field in names.items()]
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    host_port = [{"containerPort": 8080, "hostPort": HOST_PORT}]
    web = {"app": "web"}
    namespace.apply(
        pod("web-0", container(image, WEB, readinessProbe=ready), labels=web, nodeName=first),
        pod("web-1", container(image, WEB, readinessProbe=ready, ports=host_port), labels=web, nodeName=second),
        pod("client", container(image, ADDRESSES + SLEEP, env=env), nodeName=first),
        pod("host-client", container(image, ADDRESSES + SLEEP, env=env), nodeName=first, hostNetwork=True),
        make_service("four"),
        make_service("six", ipFamilies=["IPv6"]),
        make_service("either", ipFamilyPolicy="PreferDualStack"),
        make_service("both", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6", "IPv4"], type="NodePort"),
        make_service("none", "nobody", ipFamilies=["IPv6"]),
    )
    namespace.wait_ready("web-0", "web-1", "client", "host-client")
    for service, endpoints in (("six", 2), ("either", 4)):
        until(f"endpoints of {service}", lambda s=service, n=endpoints: len(namespace.ready_endpoints(s)) == n)
    return namespace


def addresses(cluster: Namespace, name: str, field: str = "podIPs") -> list[str]:
    return [entry["ip"] for entry in cluster.pod(name)["status"][field]]


def ipv6(cluster: Namespace, name: str) -> str:
    return next(address for address in addresses(cluster, name) if ":" in address)


def families(found: list[str]) -> list[int]:
    return [ipaddress.ip_address(address).version for address in found]


def literal(address: str) -> str:
    """As it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def test_a_pods_status_has_both_addresses_and_those_of_its_instance_ipv4_first(cluster: Namespace) -> None:
    for name in ("web-0", "client"):
        status = cluster.pod(name)["status"]
        assert families(addresses(cluster, name)) == families(addresses(cluster, name, "hostIPs")) == [4, 6]
        assert (status["podIP"], status["hostIP"]) == (status["podIPs"][0]["ip"], status["hostIPs"][0]["ip"])
        record = cluster.instance(name).record
        assert addresses(cluster, name) == [record.addresses.pod_ip, record.addresses.pod_ipv6]
        assert addresses(cluster, name, "hostIPs") == [record.addresses.primary_ip, record.addresses.primary_ipv6]
    assert addresses(cluster, "host-client") == addresses(cluster, "host-client", "hostIPs")


def test_a_node_has_an_internal_address_of_each_family(nodeless: Nodeless) -> None:
    for name in nodeless.nodes:
        found = nodeless.get("node", name)["status"]["addresses"]
        internal = [each["address"] for each in found if each["type"] == "InternalIP"]
        assert internal == [nodeless.environment.address, nodeless.environment.ipv6_address]


def test_containers_see_both_addresses(cluster: Namespace) -> None:
    for name in ("client", "host-client"):
        pod_ips, host_ips = addresses(cluster, name), addresses(cluster, name, "hostIPs")
        assert cluster.logs(name).split() == [",".join(pod_ips), ",".join(host_ips), pod_ips[0], host_ips[0]]
    hosts = cluster.execute("client", "cat /etc/hosts").stdout
    assert [f"{address}\tclient" in hosts for address in addresses(cluster, "client")] == [True, True]
    shown = cluster.execute("client", "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip -6 addr show eth0").stdout
    assert shown.startswith("0\n") and ipv6(cluster, "client") in shown and "tentative" not in shown


@pytest.mark.parametrize("client", CLIENTS)
def test_a_pod_is_reached_at_both_addresses(cluster: Namespace, client: str) -> None:
    for server in ("web-0", "web-1"):
        assert [ask(cluster, client, literal(each), 8080) for each in addresses(cluster, server)] == [server] * 2


def test_a_server_sees_the_ipv6_address_of_the_pod_that_asks(cluster: Namespace) -> None:
    own = ipv6(cluster, "client")
    (service,) = cluster.get("service", "six")["spec"]["clusterIPs"]
    assert ask(cluster, "client", literal(ipv6(cluster, "web-1")), 8080, "cgi-bin/client") == literal(own)
    assert ask(cluster, "client", literal(service), 80, "cgi-bin/client") == literal(own)


@pytest.mark.parametrize("client", CLIENTS)
def test_services_of_each_family_policy_answer_at_all_their_addresses(cluster: Namespace, client: str) -> None:
    for name, wanted in {"four": [4], "six": [6], "either": [4, 6], "both": [6, 4]}.items():
        found = cluster.get("service", name)["spec"]["clusterIPs"]
        assert families(found) == wanted
        for address in found:
            until_answers(partial(ask_often, cluster, client, literal(address), 80), SERVERS)
    (address,) = cluster.get("service", "none")["spec"]["clusterIPs"]
    assert ask(cluster, client, literal(address), 80) == "refused"


def test_a_server_reaches_itself_by_a_service_of_ipv6(cluster: Namespace) -> None:
    (address,) = cluster.get("service", "six")["spec"]["clusterIPs"]
    assert ask_often(cluster, "web-0", literal(address), 80) == SERVERS


@pytest.mark.parametrize("client", CLIENTS)
def test_node_ports_and_host_ports_answer_at_the_nodes_ipv6_address(
    cluster: Namespace, nodeless: Nodeless, client: str
) -> None:
    for address in (nodeless.environment.address, nodeless.environment.ipv6_address):
        until_answers(partial(ask_often, cluster, client, literal(address), node_port(cluster, "both")), SERVERS)
        until_answers(partial(ask_once, cluster, client, literal(address), HOST_PORT), {"web-1"})


def test_a_node_port_answers_at_the_ipv6_address_of_the_clients_own_instance(cluster: Namespace) -> None:
    own = addresses(cluster, "client", "hostIPs")[1]
    assert ask_often(cluster, "client", literal(own), node_port(cluster, "both")) == SERVERS


def test_a_policy_with_a_block_of_ipv6_lets_that_address_in_alone(cluster: Namespace) -> None:
    """Of the other family it says nothing, so nothing of it is let in."""
    block = {"ipBlock": {"cidr": f"{ipv6(cluster, 'client')}/128"}}
    cluster.apply(network_policy("block", "web", ingress=[{"from": [block]}]))
    four, six = addresses(cluster, "web-1")
    try:
        until("IPv4 is denied", lambda: ask(cluster, "client", four, 8080) == "nothing", 20)
        assert ask(cluster, "client", literal(six), 8080) == "web-1"
        assert ask(cluster, "host-client", literal(six), 8080) == "nothing"
        except_client = {"ipBlock": {"cidr": "::/0", "except": [block["ipBlock"]["cidr"]]}}
        cluster.apply(network_policy("block", "web", ingress=[{"from": [except_client]}]))
        until("the exception is denied", lambda: ask(cluster, "client", literal(six), 8080) == "nothing", 20)
        assert ask(cluster, "host-client", literal(six), 8080) == "web-1"
    finally:
        cluster.kubectl("delete", "networkpolicy", "block")
    until("everything is allowed", lambda: ask(cluster, "client", four, 8080) == "web-1", 20)


def test_names_have_aaaa_records(cluster: Namespace) -> None:
    (address,) = cluster.get("service", "six")["spec"]["clusterIPs"]
    asked = f"nslookup -type=aaaa six.{cluster.name}.svc.cluster.local"
    until("the AAAA record", lambda: address in cluster.execute("client", asked, check=False).stdout, 20)
    assert ask_often(cluster, "client", "six", 80) == SERVERS
