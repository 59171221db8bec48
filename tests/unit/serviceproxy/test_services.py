"""What a Service means: which addresses answer, with which endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from tests.unit.serviceproxy.reading import Reading, build_index, contents, list_checks, read
from vk_provider.jsontypes import Json

LOCAL, FAR = make_endpoint("10.1.0.1"), make_endpoint("10.1.128.1", "n2")
A, B = "10.1.0.1 . 8080", "10.1.128.1 . 8080"


def table(service: Json, *slices: Json, zone: str = "") -> Any:
    return build_index([service], slices or [make_slice("a", LOCAL, FAR)]).table(zone)


def test_a_cluster_ip_leads_to_all_ready_endpoints() -> None:
    assert read(table(make_service("a", "10.96.0.2")), "10.96.0.2") == Reading("cluster", [A, B])


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_each_protocol_is_served(protocol: str) -> None:
    ports = [{"name": "", "protocol": protocol, "port": 8080}]
    made = table(make_service("a", "10.96.0.2", ports=[make_port(80, protocol)]), make_slice("a", LOCAL, ports=ports))
    assert read(made, "10.96.0.2", 80, protocol).endpoints == [A]


def test_each_port_of_a_service_has_the_endpoints_of_the_port_with_its_name() -> None:
    ports = [{"name": "web", "protocol": "TCP", "port": 8080}, {"name": "tls", "protocol": "TCP", "port": 8443}]
    service = make_service("a", "10.96.0.2", ports=[make_port(80, name="web"), make_port(443, name="tls")])
    made = table(service, make_slice("a", LOCAL, ports=ports))
    assert read(made, "10.96.0.2", 80).endpoints == [A]
    assert read(made, "10.96.0.2", 443).endpoints == ["10.1.0.1 . 8443"]


def test_a_dual_stack_service_has_the_endpoints_of_each_family() -> None:
    six = make_slice("a", make_endpoint("fd00:1::1"), family="IPv6", suffix="y")
    made = table(make_service("a", "10.96.0.2", "fd00:96::2"), make_slice("a", LOCAL), six)
    assert read(made, "10.96.0.2").endpoints == [A]
    assert read(made, "fd00:96::2").endpoints == ["fd00:1::1 . 8080"]


@pytest.mark.parametrize(
    "change",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"clusterIP": "", "clusterIPs": []},
        {"type": "ExternalName", "externalName": "example.com"},
    ],
)
def test_headless_and_external_name_services_are_for_dns_alone(change: Json) -> None:
    assert not list(table(make_service("a", "10.96.0.2", **change)).elements())


def test_a_service_of_another_proxy_is_left_alone_whatever_its_label_says() -> None:
    service = make_service("a", "10.96.0.2")
    service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": ""}
    assert not list(table(service).elements())


def test_without_endpoints_every_address_refuses() -> None:
    service = make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
    made = build_index([service]).table()
    assert read(made, "10.96.0.2") == read(made, "", 30080) == Reading("refused")


def test_a_node_port_is_masqueraded_and_reaches_all_endpoints() -> None:
    service = make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
    assert read(table(service), "", 30080) == Reading("external", [A, B])


def test_external_and_load_balancer_addresses_serve_the_service_port() -> None:
    ingress = [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "VIP"}, {"ip": "203.0.113.3", "ipMode": "Proxy"}]
    service = make_service("a", "10.96.0.2", type="LoadBalancer", externalIPs=["203.0.113.9"], ingress=ingress)
    made = table(service)
    assert [read(made, f"203.0.113.{n}").verdict for n in (1, 2, 3, 9)] == [
        "external",
        "external",
        "nothing",
        "external",
    ]


def test_external_traffic_policy_local_keeps_outside_traffic_on_the_node_and_lets_pods_go_anywhere() -> None:
    service = make_service(
        "a", "10.96.0.2", type="LoadBalancer", externalTrafficPolicy="Local", ingress=[{"ip": "203.0.113.1"}]
    )
    made = table(service)
    assert read(made, "203.0.113.1") == Reading("external-local", [A, B], [A])
    assert read(made, "10.96.0.2") == Reading("cluster", [A, B])


def test_external_traffic_policy_local_without_local_endpoints_drops_what_comes_from_outside() -> None:
    service = make_service(
        "a", "10.96.0.2", type="NodePort", externalTrafficPolicy="Local", ports=[make_port(80, node_port=30080)]
    )
    found = read(table(service, make_slice("a", FAR)), "", 30080)
    assert found == Reading("external-local", [B], [], outside_dropped=True)


def test_internal_traffic_policy_local_means_endpoints_of_the_same_node_object() -> None:
    service = make_service("a", "10.96.0.2", internalTrafficPolicy="Local")
    assert read(table(service), "10.96.0.2") == Reading("local", [A])


def test_internal_traffic_policy_local_does_not_hold_for_node_ports() -> None:
    ports = [make_port(80, node_port=30080)]
    made = table(make_service("a", "10.96.0.2", type="NodePort", internalTrafficPolicy="Local", ports=ports))
    assert read(made, "10.96.0.2") == Reading("local", [A])
    assert read(made, "", 30080) == Reading("external", [A, B])


def test_internal_traffic_policy_local_without_local_endpoints_drops() -> None:
    service = make_service("a", "10.96.0.2", internalTrafficPolicy="Local")
    assert read(table(service, make_slice("a", FAR)), "10.96.0.2") == Reading("dropped")
    assert read(build_index([service]).table(), "10.96.0.2") == Reading("refused")


def test_session_affinity_keeps_a_client_for_the_services_timeout_on_all_its_frontends() -> None:
    service = make_service(
        "a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)], sessionAffinity="ClientIP"
    )
    service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] = 10
    made = table(service)
    assert read(made, "10.96.0.2") == Reading("cluster", [A, B], affinity_s=10)
    assert read(made, "", 30080) == Reading("external", [A, B], affinity_s=10)
    maps = contents(made)
    assert set(maps["affinity4"].values()) == set(maps["nodeport-affinity4"].values())


def test_source_ranges_guard_the_load_balancers_address_and_nothing_else() -> None:
    service = make_service(
        "a",
        "10.96.0.2",
        type="LoadBalancer",
        ingress=[{"ip": "203.0.113.1"}],
        loadBalancerSourceRanges=[" 192.168.0.0/17", "192.168.128.0/17", "fd00::/8", "no network"],
    )
    maps = contents(table(service))
    assert maps["firewall-ips4"] == {"203.0.113.1 . 6 . 80": "goto firewall4"}
    assert set(maps["firewall-sources4"]) == {"203.0.113.1 . 6 . 80 . 192.168.0.0/16"}  # merged: no overlap in nft


def test_source_ranges_that_admit_the_node_admit_the_load_balancers_own_address() -> None:
    service = make_service(
        "a",
        "10.96.0.2",
        type="LoadBalancer",
        ingress=[{"ip": "203.0.113.1"}],
        loadBalancerSourceRanges=["10.255.0.0/16"],
    )
    assert "203.0.113.1 . 6 . 80 . 203.0.113.1" in contents(table(service))["firewall-sources4"]


def test_a_source_range_of_length_zero_admits_everybody() -> None:
    service = make_service(
        "a",
        "10.96.0.2",
        type="LoadBalancer",
        ingress=[{"ip": "203.0.113.1"}],
        loadBalancerSourceRanges=["10.0.0.0/8", "0.0.0.0/0"],
    )
    assert "firewall-ips4" not in contents(table(service))


def test_a_health_check_node_port_counts_the_ready_local_endpoints_by_address() -> None:
    service = make_service(
        "a", "10.96.0.2", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000
    )
    ports = [{"name": "", "protocol": "TCP", "port": 8080}, {"name": "b", "protocol": "TCP", "port": 8081}]
    made = table(service, make_slice("a", LOCAL, FAR, make_endpoint("10.1.0.2", ready=False), ports=ports))
    assert list_checks(made) == [("default/a", 31000, 1)]


def test_there_is_no_health_check_without_the_policy_local() -> None:
    assert not list_checks(table(make_service("a", "10.96.0.2", type="LoadBalancer", healthCheckNodePort=31000)))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": {"name": "a", "namespace": "default"}},
        make_service("a", "no address"),
        make_service("a", "10.96.0.2", ports=[{"port": 0}, {"port": "80"}, {"port": 80, "protocol": "ICMP"}]),
        make_service("a", "10.96.0.2", ports=[{"port": 1 << 40}]),
    ],
)
def test_what_no_api_server_would_send_makes_no_rule_and_no_error(broken: Json) -> None:
    assert not list(table(broken).elements())


def test_addresses_are_read_as_go_reads_them() -> None:
    made = table(make_service("a", "010.096.000.002", externalIPs=["::ffff:203.0.113.1", "x", ""]))
    assert read(made, "10.96.0.2").verdict == "cluster"
    assert read(made, "203.0.113.1").verdict == "external"
