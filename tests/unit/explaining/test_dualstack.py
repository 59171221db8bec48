"""What is said where pods and names have addresses of both families."""

from __future__ import annotations

import pytest

from tests.policy_worlds import make_pod, make_policy
from tests.service_objects import NODE6, make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import World
from tests.unit.explaining.saying import CLIENT, SERVER, headless, rows, verdict
from vk_provider.jsontypes import Json

CLIENT6, SERVER6 = "fd00:1::1", "fd00:1::2"


@pytest.fixture
def dual(world: World) -> World:
    world.services.set_service_cidrs(["10.96.0.0/16", "fd00:96::/112"])
    world.add_pod(make_pod("client", "a", {"app": "client"}, CLIENT, CLIENT6))
    world.add_pod(make_pod("server", "a", {"app": "server"}, SERVER, SERVER6))
    return world


def slice6(service: str, *addresses: str) -> Json:
    return make_slice(service, *map(make_endpoint, addresses), suffix="y", family="IPv6")


async def test_an_ipv6_address_is_answered_for_a_pod_that_has_one(dual: World) -> None:
    explanation = await dual.explain("client", f"[{SERVER6}]:8080")
    assert explanation["verdict"]["text"] == "connects to a/server ([fd00:1::2]:8080), if it listens there"
    assert explanation["source"]["address"] == CLIENT6
    dual.apply(make_policy("in", selector={"matchLabels": {"app": "server"}}))
    outcome, text, _ = await verdict(dual, f"[{SERVER6}]:8080")
    assert outcome == "dropped" and text.endswith("none allows TCP 8080 from a/client (fd00:1::1)")
    dual.apply(
        make_policy("in", selector={"matchLabels": {"app": "server"}}, ingress=[{"from": [{"podSelector": {}}]}])
    )
    assert (await verdict(dual, f"[{SERVER6}]:8080"))[0] == "connects"
    assert (await verdict(dual, f"[{CLIENT6}]:8080"))[0] == "connects"


async def test_a_service_of_ipv6_alone_is_judged_by_ipv6(dual: World) -> None:
    dual.apply(make_service("a/six", "fd00:96::1"), slice6("a/six", SERVER6))
    explanation = await dual.explain("client", "six")
    assert (
        explanation["verdict"]["text"] == "connects to a/server ([fd00:1::2]:8080), the only endpoint of Service a/six"
    )
    assert (explanation["target"]["address"], explanation["notes"]) == ("fd00:96::1", [])
    assert rows(explanation) == [(SERVER6, True, "ready")]
    assert (await verdict(dual, "[fd00:96::1]:81"))[1] == "Service a/six has no port 81/TCP"
    assert (await verdict(dual, "[fd00:96::9]:80"))[1] == "no Service has the address fd00:96::9"


async def test_a_headless_service_with_endpoints_of_ipv6_alone_is_judged_by_ipv6(dual: World) -> None:
    service, made = headless()
    made |= {"addressType": "IPv6", "endpoints": [make_endpoint(SERVER6)]}
    dual.apply(service, made)
    assert (await verdict(dual, "peers:8080"))[0] == "connects"
    four = headless(make_endpoint(SERVER))[1]
    four["metadata"]["name"] = "peers-4"
    dual.apply(four)
    explanation = await dual.explain("client", "peers:8080")
    assert [row[0] for row in rows(explanation)] == [SERVER]
    assert explanation["notes"] == ["judged by IPv4: the name has IPv6 addresses, too"]


async def test_a_name_of_both_families_is_judged_by_ipv4_and_it_is_said(dual: World) -> None:
    dual.apply(make_service("a/both", "10.96.0.3", "fd00:96::3"), slice6("a/both", SERVER6))
    dual.apply(make_slice("a/both", make_endpoint(SERVER)))
    explanation = await dual.explain("client", "both")
    assert explanation["target"]["address"] == "10.96.0.3"
    assert explanation["notes"] == ["judged by IPv4: the name has IPv6 addresses, too"]
    assert (await dual.explain("client", "10.96.0.3:80"))["notes"] == []
    for written in ("www.example.com:443", "github.com:443"):
        assert (await dual.explain("client", written))["notes"] == [
            "judged by IPv4: the name may have IPv6 addresses, too"
        ]
    assert (await dual.explain("client", "pod/server:8080"))["verdict"]["text"].startswith("connects to a/server (10.")


async def test_a_node_port_is_masqueraded_by_the_instances_address_of_the_family(dual: World) -> None:
    node_port = make_service("a/np", "fd00:96::4", type="NodePort", ports=[make_port(80, node_port=30080)])
    dual.apply(node_port, slice6("a/np", SERVER6))
    assert (await verdict(dual, f"[{NODE6}]:30080"))[0] == "connects"
    instance = dual.records["client"].instance
    assert instance is not None
    allow = [{"from": [{"ipBlock": {"cidr": f"{instance.primary_ipv6}/128"}}]}]
    dual.apply(make_policy("in", selector={"matchLabels": {"app": "server"}}, ingress=allow))
    assert (await verdict(dual, f"[{NODE6}]:30080"))[0] == "connects"
    assert (await verdict(dual, f"[{SERVER6}]:8080"))[0] == "dropped"


async def test_a_pod_of_the_hosts_network_has_its_instances_addresses(dual: World) -> None:
    dual.add_pod(make_pod("host", "a", {}, "172.16.7.7", "fd00:172::77", hostNetwork=True))
    explanation = await dual.explain("client", "[fd00:172::77]:80")
    assert explanation["target"]["name"] == "a/host" and explanation["verdict"]["connects"]
    assert (await dual.explain("host", f"[{SERVER6}]:80"))["source"]["address"] == "fd00:172::77"


async def test_who_of_another_node_has_an_ipv6_address_is_not_known(dual: World) -> None:
    dual.add_foreign(make_pod("far", "a", {}, "10.1.128.9", "fd00:2::9"))
    assert (await dual.explain("client", "[fd00:2::9]:80"))["notes"] == [
        "a pod of another Node may have fd00:2::9: the API server finds pods by their first address"
    ]
    dual.foreign[0]["status"] |= {"podIP": "fd00:2::9", "podIPs": [{"ip": "fd00:2::9"}]}
    said = (await dual.explain("client", "pod/far:80"))["verdict"]
    assert said["connects"] and "a/far ([fd00:2::9]:80)" in said["text"]
    assert "a/far" in (await verdict(dual, "[fd00:2::9]:80"))[1]
