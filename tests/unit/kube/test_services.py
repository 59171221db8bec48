"""Services: what is kept of them, and what a pod's environment is made of."""

from __future__ import annotations

import copy
from typing import Any

from tests.service_objects import make_port, make_service
from tests.unit.kube.fakeclient import FakeClient
from vk_provider.kube.services import ServiceEnvironment, trim_service
from vk_provider.serviceproxy.service import parse_service

Json = dict[str, Any]


def make_listed(name: str, *ips: str, **spec: Any) -> Json:
    service = make_service(name, *ips, **spec)
    service["metadata"] |= {"resourceVersion": "1", "managedFields": [{}], "annotations": {"a": "b" * 1000}}
    service["spec"] |= {"selector": {"app": name}}
    return service


def make_pod(namespace: str, **spec: Any) -> Json:
    return {"metadata": {"namespace": namespace, "name": "p", "uid": "u"}, "spec": spec}


class Cluster:
    """A ServiceEnvironment whose first list holds `services`."""

    def __init__(self, *services: Json) -> None:
        self.changed: list[str] = []
        self.environment = ServiceEnvironment(FakeClient())
        self.environment.on_change(self.changed.append)
        for service in services:
            self.put(service)
        self.environment.synced.set()

    def put(self, service: Json, kind: str = "ADDED") -> None:
        self.environment._apply(kind, trim_service(copy.deepcopy(service)))

    def names(self, pod: Json) -> list[str]:
        return [f"{entry['namespace']}/{entry['name']}" for entry in self.environment.entries(pod) or []]


def test_a_trimmed_service_means_the_same_to_the_proxy() -> None:
    full = make_listed(
        "a",
        "10.96.0.2",
        "fd00::2",
        type="LoadBalancer",
        ports=[make_port(80, node_port=30080), make_port(53, "UDP", "dns", 30053)],
        ingress=[{"ip": "192.0.2.1", "ipMode": "VIP", "ports": []}, {"hostname": "h"}],
        externalIPs=["192.0.2.2"],
        loadBalancerSourceRanges=["10.0.0.0/8"],
        sessionAffinity="ClientIP",
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        healthCheckNodePort=32000,
    )
    full["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    parsed = parse_service(copy.deepcopy(full))
    trimmed = trim_service(full)
    assert parsed is not None and parse_service(trimmed) == parsed
    assert not {"annotations", "managedFields"} & trimmed["metadata"].keys() and "selector" not in trimmed["spec"]


def test_a_trimmed_service_of_another_proxy_is_still_another_proxys() -> None:
    service = make_listed("a", "10.96.0.2")
    service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other", "app": "x"}
    trimmed = trim_service(service)
    assert parse_service(trimmed) is None
    assert trimmed["metadata"]["labels"] == {"service.kubernetes.io/service-proxy-name": "other"}


def test_an_environment_has_the_services_of_its_namespace_and_the_api_servers() -> None:
    cluster = Cluster(
        make_listed("default/kubernetes", "10.96.0.1"),
        make_listed("default/other", "10.96.0.3"),
        make_listed("shop/web", "10.96.0.2"),
        make_listed("shop/headless", "None"),
    )
    assert cluster.names(make_pod("shop")) == ["default/kubernetes", "shop/web"]
    assert cluster.names(make_pod("shop", enableServiceLinks=False)) == ["default/kubernetes"]
    entry = (cluster.environment.entries(make_pod("shop")) or [])[1]
    assert entry["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}] and entry["clusterIP"] == "10.96.0.2"


def test_a_namespaces_own_kubernetes_hides_the_api_servers() -> None:
    cluster = Cluster(make_listed("default/kubernetes", "10.96.0.1"), make_listed("shop/kubernetes", "10.96.0.2"))
    assert cluster.names(make_pod("shop")) == ["shop/kubernetes"]


def test_before_the_first_list_nothing_is_known() -> None:
    environment = ServiceEnvironment(FakeClient())
    assert environment.entries(make_pod("shop")) is None


def test_only_what_an_environment_shows_is_a_change_of_it() -> None:
    cluster = Cluster(make_listed("shop/web", "10.96.0.2"))
    cluster.put(make_listed("shop/web", "10.96.0.2", externalIPs=["192.0.2.1"]), "MODIFIED")
    assert cluster.changed == []
    cluster.put(make_listed("shop/web", "10.96.0.2", ports=[make_port(81)]), "MODIFIED")
    assert cluster.changed == ["shop"]
    cluster.put(make_listed("shop/web", "None"), "MODIFIED")
    assert cluster.names(make_pod("shop")) == [] and cluster.changed == ["shop", "shop"]


def test_the_api_servers_service_is_in_every_environment_so_its_change_concerns_all() -> None:
    cluster = Cluster()
    cluster.put(make_listed("default/kubernetes", "10.96.0.1"))
    assert cluster.changed == [""]


def test_followers_get_every_event_also_of_what_no_environment_shows() -> None:
    cluster, seen = Cluster(), list[tuple[str, str]]()
    cluster.environment.follow(lambda kind, item: seen.append((kind, item["metadata"]["name"])))
    cluster.put(make_listed("shop/headless", "None"))
    stub = {"metadata": {"name": "headless", "namespace": "shop", "uid": "u", "resourceVersion": "2"}}
    cluster.environment._apply("DELETED", stub)
    assert seen == [("ADDED", "headless"), ("DELETED", "headless")]


def test_all_pods_of_a_namespace_are_given_the_same_objects_and_what_has_not_changed_stays_the_same() -> None:
    """Each is kept for its pod: thousands of pods with thousands of Services would need gigabytes."""
    cluster = Cluster(
        make_listed("default/kubernetes", "10.96.0.1"),
        make_listed("shop/a", "10.96.0.2"),
        make_listed("shop/b", "10.96.0.3"),
    )
    first, alone = (cluster.environment.entries(make_pod("shop", enableServiceLinks=links)) for links in (True, False))
    assert cluster.environment.entries(make_pod("shop")) is first
    assert cluster.environment.entries(make_pod("other", enableServiceLinks=False)) is alone
    cluster.put(make_listed("shop/a", "10.96.0.9"), "MODIFIED")
    second = cluster.environment.entries(make_pod("shop"))
    assert first is not None and second is not None
    assert [entry["clusterIP"] for entry in second] == ["10.96.0.9", "10.96.0.3", "10.96.0.1"]
    assert [one is other for one, other in zip(first, second, strict=True)] == [False, True, True]
    assert first[0]["clusterIP"] == "10.96.0.2"
    assert cluster.environment.entries(make_pod("x", enableServiceLinks=False)) is alone
    cluster.put(make_listed("default/kubernetes", "10.96.0.8"), "MODIFIED")
    changed = [cluster.environment.entries(make_pod("shop", enableServiceLinks=links)) for links in (True, False)]
    assert [(given or [{}])[-1]["clusterIP"] for given in changed] == ["10.96.0.8"] * 2
