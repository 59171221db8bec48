"""Names as the Kubernetes DNS specification (kubernetes/dns docs/specification.md, 1.1.0) has them, asked from a pod by
glibc's and bind's resolvers through the cluster DNS address; CoreDNS runs on nodeless instances itself.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator

import pytest

from tests.cluster import dns
from tests.cluster.images.__main__ import ensure_pushed
from tests.cluster.images.catalog import select_entries
from tests.cluster.state import CLUSTER_DNS, KUBERNETES_SERVICE_IP
from tests.e2e.manifest import container, pod, service
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

RECIPE = "glibc-dns-testing"
CLIENT = "client"
SERVE = "mkdir -p /www && hostname > /www/index.html && httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module")
def cluster_dns(nodeless: Nodeless) -> Iterator[None]:
    """CoreDNS for the tests of this file."""
    registry = nodeless.environment.registry
    for recipe in ("coredns", RECIPE):
        ensure_pushed(registry, recipe)
    with dns.running(nodeless.plane, registry):
        yield


@pytest.fixture(scope="module")
def world(cluster_dns: None, namespace: Namespace) -> Namespace:
    """A client; two pods with host names behind `peers` (headless) and `web`; one that is never Ready."""
    registry = namespace.nodeless.environment.registry
    tools = f"{registry}/{select_entries(RECIPE)[0].references[0]}"
    image = namespace.nodeless.image
    node = namespace.nodeless.node
    peer = {"hostname": "", "subdomain": "peers", "nodeName": node, "labels": {"app": "web"}}
    never = {"exec": {"command": ["false"]}}
    namespace.apply(
        pod(CLIENT, container(tools), nodeName=node),
        pod(
            "hostnet",
            container(tools),
            nodeName=node,
            hostNetwork=True,
            dnsPolicy="ClusterFirstWithHostNet",
        ),
        *(pod(f"pod-{name}", container(image, SERVE), **{**peer, "hostname": name}) for name in ("one", "two")),
        pod("pod-three", container(image, SERVE, readinessProbe=never), **{**peer, "hostname": "three"}),
        named_port(service("web", 80), "http", 8080),
        headless("peers"),
        headless("eager", publishNotReadyAddresses=True),
        {**service("outside", 80), "spec": {"type": "ExternalName", "externalName": outside_name(namespace)}},
    )
    namespace.wait_ready(CLIENT, "hostnet", "pod-one", "pod-two")
    namespace.wait_phase("pod-three", "Running")
    until("both Ready pods are endpoints", lambda: len(namespace.ready_endpoints("web")) == 2)
    until("the newest Service is known to DNS", lambda: ask(namespace, fqdn(namespace, "eager")))
    return namespace


def named_port(item: Json, name: str, target: int) -> Json:
    """`item` with its port named, leading to `target` of the pods labelled app=web."""
    item["spec"]["selector"] = {"app": "web"}
    item["spec"]["ports"][0] |= {"name": name, "targetPort": target}
    return item


def headless(name: str, **fields: object) -> Json:
    item = named_port(service(name, 8080), "http", 8080)
    item["spec"] |= {"clusterIP": "None", **fields}
    return item


def outside_name(namespace: Namespace) -> str:
    """A name that only the resolver of the instances' network knows."""
    return f"host.{namespace.nodeless.environment.name}.internal"


def fqdn(world: Namespace, *labels: str) -> str:
    """The absolute name of a Service of this namespace, or of something below it."""
    return f"{'.'.join((*labels, world.name))}.svc.cluster.local."


def ask(world: Namespace, name: str, kind: str = "A", *flags: str, client: str = CLIENT) -> set[str]:
    """The answer's records as `dig +short` writes them."""
    words = ("dig", "+short", "+time=2", "+tries=3", *flags, name, kind)
    return set(world.kubectl("exec", client, "--", *words).stdout.splitlines())


def status(world: Namespace, name: str, kind: str = "A") -> str:
    """The response code: NOERROR, NXDOMAIN, ..."""
    answer = world.kubectl("exec", CLIENT, "--", "dig", "+time=2", "+tries=3", name, kind).stdout
    return answer.partition("status: ")[2].partition(",")[0]


def cluster_ip(world: Namespace, name: str) -> str:
    return str(world.get("service", name)["spec"]["clusterIP"])


def pod_ip(world: Namespace, name: str) -> str:
    return str(world.pod(name)["status"]["podIP"])


def reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer + "."


def test_the_version_of_the_schema_is_published(world: Namespace) -> None:
    assert ask(world, "dns-version.cluster.local.", "TXT") == {'"1.1.0"'}


def test_a_service_has_the_address_of_its_cluster_ip_and_no_other_family(world: Namespace) -> None:
    assert ask(world, fqdn(world, "web")) == {cluster_ip(world, "web")}
    assert ask(world, "kubernetes.default.svc.cluster.local.") == {KUBERNETES_SERVICE_IP}
    assert (status(world, fqdn(world, "web"), "AAAA"), ask(world, fqdn(world, "web"), "AAAA")) == ("NOERROR", set())


@pytest.mark.parametrize("form", ["web", "web.{}", "web.{}.svc", "web.{}.svc.cluster.local"])
@pytest.mark.parametrize("client", [CLIENT, "hostnet"])
def test_every_short_form_of_a_services_name_is_found_by_the_search_domains(
    world: Namespace, form: str, client: str
) -> None:
    found = world.kubectl("exec", client, "--", "getent", "ahostsv4", form.format(world.name)).stdout
    assert {line.split()[0] for line in found.splitlines()} == {cluster_ip(world, "web")}


def test_a_connection_to_a_services_name_reaches_its_pods(world: Namespace) -> None:
    until(
        "both pods have answered",
        lambda: (
            {world.kubectl("exec", CLIENT, "--", "wget", "-qO-", "-T5", "http://web/").stdout for _ in range(6)}
            == {"one\n", "two\n"}
        ),
    )


def test_a_named_port_has_an_srv_record(world: Namespace) -> None:
    name = fqdn(world, "web")
    assert ask(world, f"_http._tcp.{name}", "SRV") == {f"0 100 80 {name}"}
    assert status(world, f"_http._udp.{name}", "SRV") == "NXDOMAIN"


def test_a_cluster_ip_leads_back_to_its_service(world: Namespace) -> None:
    assert ask(world, reverse(cluster_ip(world, "web")), "PTR") == {fqdn(world, "web")}


def test_a_headless_service_has_the_addresses_of_its_ready_pods(world: Namespace) -> None:
    ready = {pod_ip(world, "pod-one"), pod_ip(world, "pod-two")}
    assert ask(world, fqdn(world, "peers")) == ready


def test_a_headless_service_may_publish_pods_that_are_not_ready(world: Namespace) -> None:
    everyone = {pod_ip(world, f"pod-{name}") for name in ("one", "two", "three")}
    until("all three addresses", lambda: ask(world, fqdn(world, "eager")) == everyone)


def test_each_named_pod_of_a_headless_service_has_records_of_its_own(world: Namespace) -> None:
    for name in ("one", "two"):
        assert ask(world, fqdn(world, name, "peers")) == {pod_ip(world, f"pod-{name}")}
        assert fqdn(world, name, "peers") in ask(world, reverse(pod_ip(world, f"pod-{name}")), "PTR")
    assert status(world, fqdn(world, "three", "peers")) == "NXDOMAIN"


def test_a_headless_services_port_has_one_srv_record_a_pod(world: Namespace) -> None:
    records = [record.split() for record in ask(world, fqdn(world, "_http", "_tcp", "peers"), "SRV")]
    found = {(port, target) for _priority, _weight, port, target in records}
    assert found == {("8080", fqdn(world, name, "peers")) for name in ("one", "two")}


def test_a_pods_own_full_name_in_its_hosts_file_is_its_name_in_dns(world: Namespace) -> None:
    lines = world.execute("pod-one", "hostname -f; grep -w one /etc/hosts").stdout.splitlines()
    assert lines[0] + "." == fqdn(world, "one", "peers")
    assert lines[1].split()[0] == pod_ip(world, "pod-one")


def test_an_external_name_is_an_alias_that_the_instances_resolver_knows(world: Namespace) -> None:
    target = outside_name(world)
    assert ask(world, fqdn(world, "outside"), "CNAME") == {f"{target}."}
    assert ask(world, fqdn(world, "outside")) == {f"{target}.", world.nodeless.environment.address}


def test_names_outside_the_cluster_are_forwarded_to_the_instances_resolver(world: Namespace) -> None:
    found = world.kubectl("exec", CLIENT, "--", "getent", "ahostsv4", outside_name(world)).stdout
    assert found.split()[0] == world.nodeless.environment.address


def test_unknown_names_of_the_cluster_do_not_exist(world: Namespace) -> None:
    assert status(world, fqdn(world, "nobody")) == "NXDOMAIN"
    assert status(world, "web.nowhere.svc.cluster.local.") == "NXDOMAIN"


def test_dns_answers_over_tcp_too(world: Namespace) -> None:
    assert ask(world, fqdn(world, "web"), "A", "+tcp") == {cluster_ip(world, "web")}


def test_a_new_service_is_found_and_a_deleted_one_is_not(world: Namespace) -> None:
    world.apply(named_port(service("late", 80), "http", 8080))
    address = cluster_ip(world, "late")
    until("the new Service is found", lambda: ask(world, fqdn(world, "late")) == {address})
    world.kubectl("delete", "service", "late")
    # CoreDNS keeps an answer for its time to live, 30 s.
    until("the deleted Service is gone", lambda: status(world, fqdn(world, "late")) == "NXDOMAIN", 60)


def test_names_are_found_while_one_of_the_servers_is_replaced(world: Namespace) -> None:
    """One of two pods is deleted: a lookup may need a second try, none fails."""
    kube = ("-n", dns.NAMESPACE)
    listed = world.nodeless.kubectl(*kube, "get", "pods", "-l", "k8s-app=kube-dns", "-o", "json").stdout
    before = {item["metadata"]["name"] for item in json.loads(listed)["items"]}
    world.nodeless.kubectl(*kube, "delete", "pod", sorted(before)[0], "--wait=false")
    for _ in range(10):
        assert ask(world, fqdn(world, "web")) == {cluster_ip(world, "web")}
    dns.wait(world.nodeless.plane)


def test_the_pods_resolv_conf_names_the_cluster_dns_address(world: Namespace) -> None:
    for client in (CLIENT, "hostnet"):
        lines = world.kubectl("exec", client, "--", "cat", "/etc/resolv.conf").stdout.splitlines()
        assert f"nameserver {CLUSTER_DNS}" in lines
        assert f"search {world.name}.svc.cluster.local svc.cluster.local cluster.local" in lines
        assert "options ndots:5" in lines
