"""What is said of Services and their ports, and of each way in which they cannot be reached."""

from __future__ import annotations

import pytest

from tests.policy_worlds import make_policy
from tests.service_objects import NODE4, make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import World
from tests.unit.explaining.saying import SERVER, WEB, rows, verdict, web_slice
from vk_provider.explain.target import QuestionError
from vk_provider.serviceproxy.hostport import HostPort


async def test_the_endpoints_of_a_service_are_told_with_why_others_are_not_used(world: World) -> None:
    world.apply(
        WEB,
        web_slice(
            make_endpoint(SERVER) | {"targetRef": {"kind": "Pod", "namespace": "a", "name": "server"}},
            make_endpoint("10.1.0.3", ready=False),
            make_endpoint("10.1.0.4", ready=False, serving=True, terminating=True),
        ),
    )
    explanation = await world.explain("client", "web")
    assert explanation["verdict"]["text"] == "connects to a/server (10.1.0.2:8080), the only endpoint of Service a/web"
    assert rows(explanation) == [
        (SERVER, True, "ready"),
        ("10.1.0.3", False, "not ready"),
        ("10.1.0.4", False, "terminating"),
    ]
    assert explanation["endpoints"][0]["pod"] == "a/server"
    assert explanation["target"]["text"] == "ClusterIP, port http 80/TCP -> 8080"
    assert (explanation["target"]["address"], explanation["target"]["port"]) == ("10.96.0.2", 80)


async def test_the_last_resort_is_called_so(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER, ready=False, serving=True, terminating=True)))
    assert rows(await world.explain("client", "web")) == [(SERVER, True, "terminating, but no other one is ready")]


async def test_endpoints_of_another_zone_are_left_out_for_the_reason_of_the_hint(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER, zones=["z1"]), make_endpoint("10.1.0.3", zones=["z2"])))
    explanation = await world.explain("client", "web")
    assert rows(explanation)[1] == ("10.1.0.3", False, "for clients in zone z2 (trafficDistribution)")
    assert explanation["verdict"]["connects"]


async def test_an_internal_policy_of_local_keeps_to_the_node(world: World) -> None:
    near = make_service("a/near", "10.96.0.3", internalTrafficPolicy="Local")
    world.apply(near, make_slice("a/near", make_endpoint(SERVER), make_endpoint("10.1.128.1", node="n2")))
    explanation = await world.explain("client", "near")
    assert rows(explanation)[1] == ("10.1.128.1", False, "on another Node: internalTrafficPolicy is Local")
    world.apply(make_slice("a/near", make_endpoint("10.1.128.1", node="n2")))
    outcome, text, following = await verdict(world, "near")
    assert (outcome, "on other Nodes only" in text) == ("dropped", True)
    assert following == "run one on Node n1, or set internalTrafficPolicy: Cluster"


async def test_affinity_is_told(world: World) -> None:
    sticky = make_service("a/sticky", "10.96.0.3", sessionAffinity="ClientIP")
    world.apply(sticky, make_slice("a/sticky", make_endpoint(SERVER), make_endpoint("10.1.0.3")))
    explanation = await world.explain("client", "sticky")
    assert (
        explanation["verdict"]["text"]
        == "connects to one of 2 endpoints of Service a/sticky, the same one for each client"
    )
    assert "10800 s" in explanation["target"]["text"]


async def test_no_ready_endpoint_is_refused_with_the_pod_to_look_at(world: World) -> None:
    unready = make_endpoint(SERVER, ready=False) | {"targetRef": {"kind": "Pod", "namespace": "a", "name": "server"}}
    world.apply(WEB, web_slice(unready))
    assert await verdict(world, "web") == (
        "refused",
        "Service a/web has no ready endpoint",
        "1 endpoint not ready: kubectl -n a describe pod server",
    )


async def test_a_service_that_selects_nothing_is_refused_with_its_selector(world: World) -> None:
    world.apply(make_service("a/none", "10.96.0.3", selector={"app": "x", "tier": "y"}))
    assert (await verdict(world, "none"))[2] == "pods of its selector: kubectl -n a get pods -l app=x,tier=y"
    world.apply(make_service("a/none", "10.96.0.3"))
    assert "no selector" in (await verdict(world, "none"))[2]


async def test_a_port_that_the_service_does_not_have_is_refused_with_those_it_has(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    refused = ("refused", "Service a/web has no port 81/TCP", "its ports are http 80/TCP")
    assert await verdict(world, "web:81") == refused
    assert await verdict(world, "10.96.0.2:81") == refused
    assert (await verdict(world, "web:80", "UDP"))[1] == "Service a/web has no port 80/UDP"


async def test_the_only_port_need_not_be_named_and_one_of_several_must(world: World) -> None:
    two = make_service("a/two", "10.96.0.3", ports=[make_port(53, "UDP", "dns"), make_port(53, "TCP", "dns-tcp")])
    ports = [{"name": "dns", "protocol": "UDP", "port": 5353}, {"name": "dns-tcp", "protocol": "TCP", "port": 5353}]
    world.apply(two, make_slice("a/two", make_endpoint(SERVER), ports=ports))
    with pytest.raises(QuestionError, match="its ports are dns 53/UDP, dns-tcp 53/TCP"):
        await world.explain("client", "two")
    for written, protocol, wanted in (("two", "UDP", "UDP"), ("two:dns", "", "UDP"), ("two:53", "", "TCP")):
        assert (await world.explain("client", written, protocol))["target"]["protocol"] == wanted
    assert (await world.explain("client", "10.96.0.3:dns"))["target"]["protocol"] == "UDP"
    with pytest.raises(QuestionError, match="no port of the name 'x'"):
        await world.explain("client", "two:x")


async def test_an_unknown_service_is_unresolved(world: World) -> None:
    assert await verdict(world, "nobody:80") == (
        "unresolved",
        "no Service 'nobody' in namespace 'a'",
        "kubectl -n a get services",
    )


async def test_an_address_of_the_services_network_that_nobody_has_is_dropped(world: World) -> None:
    assert (await verdict(world, "10.96.9.9:80"))[:2] == ("dropped", "no Service has the address 10.96.9.9")


async def test_a_service_of_another_proxy_is_told(world: World) -> None:
    other = make_service("a/other", "10.96.0.3")
    other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "x"}
    world.apply(other)
    outcome, text, _ = await verdict(world, "other")
    assert outcome == "dropped" and "another proxy" in text


async def test_a_node_port_masquerades_and_the_policies_of_the_endpoint_see_the_instance(world: World) -> None:
    node_port = make_service("a/np", "10.96.0.3", type="NodePort", ports=[make_port(80, node_port=30080)])
    world.apply(node_port, make_slice("a/np", make_endpoint(SERVER)))
    explanation = await world.explain("client", f"{NODE4}:30080")
    assert explanation["verdict"]["connects"] and explanation["target"]["name"] == "a/np"
    assert "at its node port" in explanation["target"]["text"]
    world.apply(
        make_policy("in", selector={"matchLabels": {"app": "server"}}, ingress=[{"from": [{"podSelector": {}}]}])
    )
    outcome, text, _ = await verdict(world, f"{NODE4}:30080")
    assert outcome == "dropped" and "from 172.16.0.1, the instance of a/client" in text
    assert (await verdict(world, "np"))[0] == "connects"


async def test_a_host_port_is_told(world: World) -> None:
    world.services.set_host_ports("server", [HostPort("", "TCP", 8443, SERVER, 443)], (NODE4,))
    explanation = await world.explain("client", f"{NODE4}:8443")
    assert explanation["target"]["kind"] == "Host port"
    assert explanation["verdict"]["text"] == "connects to a/server (10.1.0.2:443)"


async def test_source_ranges_are_told(world: World) -> None:
    ranged = make_service(
        "a/lb",
        "10.96.0.3",
        type="LoadBalancer",
        ingress=[{"ip": "203.0.113.1"}],
        loadBalancerSourceRanges=["192.0.2.0/24"],
        ports=[make_port(80, node_port=30080)],
    )
    world.apply(ranged, make_slice("a/lb", make_endpoint(SERVER)))
    outcome, text, _ = await verdict(world, "203.0.113.1:80")
    assert outcome == "dropped" and "loadBalancerSourceRanges of Service a/lb do not admit" in text
