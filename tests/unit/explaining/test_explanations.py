"""What is said of each kind of target and each way in which it cannot be reached."""

from __future__ import annotations

import asyncio

import pytest

from tests.policy_worlds import make_pod, make_policy
from tests.service_objects import NODE4, NODE6, make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import DNS, World
from vk_provider.errors import KubeApiError
from vk_provider.explain.document import Explanation
from vk_provider.explain.report import render
from vk_provider.explain.target import QuestionError
from vk_provider.explaining.explainer import AT_ONCE, NetExplainer
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.hostport import HostPort

CLIENT, SERVER = "10.1.0.1", "10.1.0.2"
WEB = make_service("a/web", "10.96.0.2", ports=[make_port(80, name="http")])
WEB_PORTS = [{"name": "http", "protocol": "TCP", "port": 8080}]


def web_slice(*endpoints: Json) -> Json:
    return make_slice("a/web", *endpoints, ports=WEB_PORTS)


def pod(name: str, address: str, **more: object) -> Json:
    return make_pod(name, "a", {"app": name}, address, **more)


@pytest.fixture
def world() -> World:
    made = World(dns=(DNS,))
    made.index.apply_namespace("a", {})
    made.add_pod(pod("client", CLIENT))
    made.add_pod(pod("server", SERVER))
    made.apply(
        make_service("kube-system/dns", DNS, ports=[make_port(53, "UDP")]),
        make_slice("kube-system/dns", make_endpoint("10.1.0.53"), ports=[{"name": "", "protocol": "UDP", "port": 53}]),
    )
    return made


async def verdict(world: World, written: str, protocol: str = "") -> tuple[str, str, str]:
    said = (await world.explain("client", written, protocol))["verdict"]
    assert said["connects"] == (said["outcome"] == "connects")
    return said["outcome"], said["text"], said["next"]


def rows(explanation: Explanation) -> list[tuple[str, bool, str]]:
    return [(row["address"], row["used"], row["why"]) for row in explanation["endpoints"]]


# --- Services --------------------------------------------------------------------------------------------------------


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


# --- names that DNS decides ------------------------------------------------------------------------------------------


def headless(*endpoints: Json, port: int = 80) -> tuple[Json, Json]:
    made = make_slice("a/peers", *endpoints, ports=[{"name": "", "protocol": "TCP", "port": 8080}])
    made["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    service = make_service("a/peers", "None", ports=[make_port(port)])
    return service, made


async def test_a_headless_service_leads_to_its_pods_at_their_own_port(world: World) -> None:
    world.apply(*headless(make_endpoint(SERVER) | {"hostname": "one"}, make_endpoint("10.1.0.3", ready=False)))
    outcome, text, _ = await verdict(world, "peers:8080")
    assert outcome == "connects" and text.endswith("DNS gives the addresses of the pods")
    assert (await verdict(world, "peers"))[0] == "connects"
    outcome, text, following = await verdict(world, "peers:80")
    assert (outcome, following) == ("refused", "use port 8080") and "translates no ports" in text
    assert (await verdict(world, "one.peers.a.svc:8080"))[0] == "connects"
    assert (await verdict(world, "two.peers.a.svc:8080"))[0] == "unresolved"


async def test_a_headless_service_without_ready_pods_has_no_address(world: World) -> None:
    world.apply(*headless(make_endpoint(SERVER, ready=False)))
    assert (await verdict(world, "peers:8080"))[0] == "unresolved"


async def test_the_pods_of_a_headless_service_are_judged_by_policies(world: World) -> None:
    world.apply(*headless(make_endpoint(SERVER), make_endpoint("10.1.0.3")))
    world.apply(make_policy("in", selector={"matchLabels": {"app": "server"}}))
    outcome, text, _ = await verdict(world, "peers:8080")
    assert outcome == "sometimes" and text.startswith("1 of 2 endpoints cannot be reached: dropped by the policies")


def external(name: str, to: str, *ports: Json) -> Json:
    made = make_service(f"a/{name}", "", ports=list(ports) or [make_port(80)], type="ExternalName", externalName=to)
    return made | {"spec": {**made["spec"], "clusterIP": "", "clusterIPs": []}}


async def test_an_external_name_within_the_cluster_is_followed(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)), external("out", "web.a.svc.cluster.local"))
    explanation = await world.explain("client", "out")
    assert explanation["verdict"]["connects"] and explanation["target"]["name"] == "a/web"
    assert "by way of ExternalName a/out" in explanation["target"]["text"]
    assert (await verdict(world, "out:81"))[1] == "Service a/web has no port 81/TCP"
    world.apply(external("lost", "nobody.a.svc.cluster.local"))
    assert (await verdict(world, "lost:80"))[0] == "unresolved"


async def test_external_names_that_name_each_other_come_to_an_end(world: World) -> None:
    world.apply(external("one", "two.a.svc.cluster.local"), external("two", "one.a.svc.cluster.local"))
    assert (await world.explain("client", "one:80"))["verdict"]["outcome"] == "unresolved"


async def test_a_name_outside_is_left_to_dns_unless_policies_keep_the_pod_from_it(world: World) -> None:
    world.apply(external("out", "www.example.com"))
    for written in ("out:443", "www.example.com:443"):
        outcome, text, _ = await verdict(world, written)
        assert outcome == "connects" and text.startswith("DNS alone decides")
    world.apply(make_policy("out", policyTypes=["Egress"], egress=[{"ports": [{"protocol": "UDP", "port": 53}]}]))
    outcome, text, following = await verdict(world, "out:443")
    assert outcome == "dropped" and "allows TCP 443 to addresses outside the cluster" in text and "address" in following
    world.apply(make_policy("out", policyTypes=["Egress"]))
    outcome, text, _ = await verdict(world, "out:443")
    assert outcome == "dropped" and "cannot be resolved" in text


async def test_a_name_of_two_labels_is_a_service_or_one_outside(world: World) -> None:
    for written in ("github.com:443", "github.com.:443"):
        outcome, text, _ = await verdict(world, written)
        assert outcome == "connects" and text.startswith("DNS alone decides") and "whatever github.com stands" in text
    explanation = await world.explain("client", "github.com:443")
    assert "there is no Service 'github' in namespace 'com'" in explanation["verdict"]["text"]
    assert (explanation["target"]["name"], explanation["target"]["text"]) == (
        "github.com",
        "no such Service, so a name outside of the cluster",
    )
    world.apply(make_service("com/github", "10.96.0.3"))
    assert (await verdict(world, "github.com:443"))[1] == "Service com/github has no port 443/TCP"
    assert (await verdict(world, "github.com.:443"))[1].startswith("DNS alone decides: ")


async def test_an_external_name_is_followed_by_its_whole_name_alone(world: World) -> None:
    """A CNAME is not searched for: web.a.svc is nobody's."""
    world.apply(WEB, web_slice(make_endpoint(SERVER)), external("short", "web.a.svc"), external("lost", "no.a.svc"))
    for written in ("short:80", "lost:80"):
        assert (await verdict(world, written))[1].startswith("DNS alone decides")


async def test_who_may_not_ask_dns_is_told_beside_the_verdict(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    world.apply(make_policy("out", policyTypes=["Egress"], egress=[{"ports": [{"port": 8080}]}]))
    explanation = await world.explain("client", "web")
    assert explanation["verdict"]["connects"]
    assert explanation["notes"] == [f"by address alone: the pod may not ask the cluster's DNS ({DNS}, UDP 53)"]
    assert (await world.explain("client", "10.96.0.2:80"))["notes"] == []
    world.apply(
        make_service("kube-system/dns", "10.96.0.11", ports=[make_port(53, "UDP")]), *headless(make_endpoint(SERVER))
    )
    (note,) = (await world.explain("client", "web"))["notes"]
    assert note.endswith("does not answer: no Service has its address")
    assert (await verdict(world, "peers"))[0] == "unresolved"


@pytest.mark.parametrize(
    ("fields", "policy", "remedy"),
    [
        ({"dnsPolicy": "Default"}, "dnsPolicy Default", "ClusterFirst"),
        ({"dnsPolicy": "None"}, "dnsPolicy None", "ClusterFirst"),
        ({"hostNetwork": True}, "dnsPolicy ClusterFirst with hostNetwork", "ClusterFirstWithHostNet"),
    ],
)
async def test_a_pod_that_asks_another_dns_knows_no_names_of_the_cluster(
    world: World, fields: Json, policy: str, remedy: str
) -> None:
    client = pod("client", CLIENT)
    client["spec"] |= fields
    world.add_pod(client)
    world.apply(WEB, web_slice(make_endpoint(SERVER)), *headless(make_endpoint(SERVER)), external("out", "example.com"))
    for written in ("peers:8080", "out:443"):
        outcome, text, following = await verdict(world, written)
        assert outcome == "unresolved" and f"does not ask the cluster's DNS ({policy})" in text
        assert following == f"give it dnsPolicy: {remedy}"
    explanation = await world.explain("client", "web")
    assert explanation["verdict"]["connects"]
    assert explanation["notes"] == [f"by address alone: the pod does not ask the cluster's DNS ({policy})"]
    assert (await world.explain("client", "www.example.com:443"))["notes"] == []
    client["spec"] |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": [DNS]}}
    world.add_pod(client)
    explanation = await world.explain("client", "peers:8080")
    assert explanation["verdict"]["connects"]
    assert explanation["notes"] == ["by address alone: the pod asks the servers of its dnsConfig (dnsPolicy None)"]


async def test_a_pod_of_the_hosts_network_asks_the_clusters_dns_when_it_says_so(world: World) -> None:
    client = pod("client", CLIENT, hostNetwork=True)
    client["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet"
    world.add_pod(client)
    world.apply(*headless(make_endpoint(SERVER)))
    assert await verdict(world, "peers:8080") == (
        "connects",
        "connects to a/server (10.1.0.2:8080), the only endpoint of Service a/peers: DNS gives the addresses of the"
        " pods",
        "",
    )


# --- pods and addresses ----------------------------------------------------------------------------------------------


async def test_a_pod_is_reached_by_its_name_and_by_its_address(world: World) -> None:
    for written in ("pod/server:8080", f"{SERVER}:8080"):
        explanation = await world.explain("client", written)
        assert explanation["verdict"]["text"] == "connects to a/server (10.1.0.2:8080), if it listens there"
        assert explanation["target"]["kind"] == "Pod"
    with pytest.raises(QuestionError, match="say the port: pod/server:PORT"):
        await world.explain("client", "pod/server")
    with pytest.raises(QuestionError, match="no pod 'nobody' in namespace 'a'"):
        await world.explain("client", "pod/nobody:1")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("192.0.2.1", "say the port: 192.0.2.1:PORT"),
        ("fd00::1", "say the port: [fd00::1]:PORT"),
        ("[fd00::1]", "say the port: [fd00::1]:PORT"),
        ("[fd00::1]:http", "say the port as a number, such as [fd00::1]:80"),
        ("pod/server:http", "say the port as a number, such as pod/server:80"),
        ("www.example.com", "say the port: www.example.com:PORT"),
        ("github.com:https", "say the port as a number, such as github.com:80"),
    ],
)
async def test_the_port_is_asked_for_in_the_form_in_which_it_is_written(world: World, written: str, words: str) -> None:
    with pytest.raises(QuestionError) as caught:
        await world.explain("client", written)
    assert str(caught.value) == words


async def test_a_pod_that_is_not_there_yet_or_any_more_is_not_reached(world: World) -> None:
    world.add_pod(pod("late", "10.1.0.8", phase="Pending"))
    world.add_pod(pod("done", "10.1.0.9", phase="Succeeded"))
    assert (await verdict(world, "pod/late:80"))[1] == "pod a/late is Pending and has no address yet"
    assert (await verdict(world, "pod/done:80"))[1] == "pod a/done has ended (Succeeded): nobody has its address"
    for uid, words in (("late", "has no address yet"), ("done", "has ended (Succeeded)")):
        said = (await world.explain(uid, "pod/server:80"))["verdict"]
        assert said["outcome"] == "impossible" and words in said["text"]


async def test_a_pod_of_another_node_is_named_and_its_own_policies_are_left_to_it(world: World) -> None:
    world.add_foreign(pod("far", "10.1.128.9"))
    for written in ("pod/far:80", "10.1.128.9:80"):
        explanation = await world.explain("client", written)
        assert explanation["verdict"]["connects"] and "a/far (10.1.128.9:80)" in explanation["verdict"]["text"]
        assert explanation["notes"] == [
            "policies for ingress on Node other are enforced there, and are not looked at here"
        ]
    world.apply(make_policy("out", policyTypes=["Egress"]))
    assert (await verdict(world, "pod/far:80"))[0] == "dropped"


async def test_policies_of_both_ends_are_named_with_the_rule_that_decides(world: World) -> None:
    world.apply(
        make_policy("in", selector={"matchLabels": {"app": "server"}}, ingress=[{"ports": [{"port": 8080}]}]),
        make_policy(
            "out",
            selector={"matchLabels": {"app": "client"}},
            policyTypes=["Egress"],
            egress=[{"ports": [{"port": 9}]}, {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}],
        ),
    )
    explanation = await world.explain("client", "pod/server:8080")
    assert [(item["direction"], item["rule"], item["text"]) for item in explanation["policies"]] == [
        ("egress", "a/out egress rule 2", "to pods app=server in a; all ports"),
        ("ingress", "a/in ingress rule 1", "from anybody; TCP 8080"),
    ]
    outcome, text, following = await verdict(world, "pod/server:8081")
    assert outcome == "dropped"
    assert text == (
        "dropped by the policies that select pod a/server for ingress (a/in): "
        "none allows TCP 8081 from a/client (10.1.0.1)"
    )
    assert following == "kubectl -n a describe networkpolicy in"
    world.apply(make_policy("out", selector={"matchLabels": {"app": "client"}}, policyTypes=["Egress"]))
    outcome, text, _ = await verdict(world, "pod/server:8081")
    assert "for egress (a/out): none allows TCP 8081 to a/server (10.1.0.2) (and 1 other reason)" in text


async def test_policies_with_too_many_rules_are_told_where_they_are_too_many(world: World) -> None:
    blocks = [{"cidr": "0.0.0.0/0", "except": [f"10.0.{n // 250}.{n % 250}/32"]} for n in range(700)]
    rules: list[Json] = [{"from": [{"ipBlock": block}]} for block in blocks]
    world.apply(make_policy("large", policyTypes=["Ingress", "Egress"], ingress=rules, egress=[{"to": []}]))
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["verdict"]["text"] == (
        "dropped: the policies that select pod a/server for ingress (a/large) have too many rules,"
        " so nothing is allowed"
    )
    egress, ingress = explanation["policies"]
    assert (egress["allowed"], egress["rule"]) == (True, "a/large egress rule 1")
    assert (ingress["rule"], ingress["text"]) == ("", "they have too many rules, so nothing is allowed")
    assert "no rule of a/large allows it: they have too many rules" in render(explanation)


async def test_a_pod_reaches_itself_whatever_is_denied(world: World) -> None:
    world.apply(make_policy("deny", policyTypes=["Ingress", "Egress"]), WEB, web_slice(make_endpoint(CLIENT)))
    assert (await verdict(world, "web"))[0] == "connects"
    assert (await verdict(world, f"{CLIENT}:9"))[0] == "connects"


async def test_a_pod_of_the_hosts_network_has_no_policies(world: World) -> None:
    world.add_pod(pod("host", "172.16.7.7", hostNetwork=True))
    world.apply(make_policy("deny", policyTypes=["Ingress", "Egress"]))
    said = await world.explain("host", "pod/server:80")
    assert said["verdict"]["outcome"] == "dropped" and {item["direction"] for item in said["policies"]} == {"ingress"}
    world.apply(make_policy("deny", policyTypes=["Egress"]))
    assert (await world.explain("host", "pod/server:80"))["verdict"]["connects"]


async def test_another_family_is_impossible(world: World) -> None:
    assert (await verdict(world, "[fd00::9]:80"))[1] == "pod a/client has no IPv6 address, and fd00::9 is one"
    world.apply(make_service("a/six", "fd00:96::1"))
    assert (await verdict(world, "six"))[1] == "Service a/six has no IPv4 address, and the pod has no other"
    world.add_foreign(pod("six", "fd00:2::9"))
    assert (await verdict(world, "pod/six:80"))[1] == "pod a/client has no IPv6 address, and fd00:2::9 is one"


# --- dual stack ------------------------------------------------------------------------------------------------------

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


# --- the state of things ---------------------------------------------------------------------------------------------


async def test_the_state_of_the_tables_is_told_and_one_that_is_behind_is_noted(world: World) -> None:
    world.set_tables("client", services=("::1", "::1", 0.0), policy=("::2", "::1", 9.0))
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["source"]["tables"][1] == {
        "name": "policy",
        "newest": "::2",
        "inForce": "::1",
        "behindSeconds": 9.0,
        "heldSeconds": 7.0,
    }
    assert explanation["notes"] == ["the instance acts by an earlier table of network policies, out of date for 9 s"]


@pytest.mark.parametrize("written", ["web", "10.96.0.2:80", "10.96.9.9:80", "github.com:443", "pod/server:80"])
async def test_without_a_compiled_table_it_is_not_known_whether_a_pod_connects(world: World, written: str) -> None:
    world.compiled = False
    world.apply(WEB)
    unknown = ("unknown", "the provider has not compiled a table of Services yet", "ask again in a second")
    assert await verdict(world, written) == unknown


async def test_without_compiled_policies_it_is_not_known_whether_a_pod_connects(world: World) -> None:
    world.index.forget("server")
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["notes"] == ["the policies of pod a/server are not compiled yet: nothing is known of them"]
    unknown = ("unknown", "the policies of pod a/server are not compiled yet", "ask again in a second")
    assert await verdict(world, "pod/server:80") == unknown
    world.apply(make_policy("out", selector={"matchLabels": {"app": "client"}}, policyTypes=["Egress"]))
    assert (await verdict(world, "pod/server:80"))[0] == "dropped"
    world.index.forget("client")
    for written in ("www.example.com:443", "192.0.2.1:443"):
        assert (await verdict(world, written))[1] == "the policies of pod a/client are not compiled yet"
    assert (await verdict(world, "pod/server:80"))[1].endswith("not compiled yet (and of 1 other pod)")


async def test_what_is_not_known_of_the_pods_of_dns_makes_no_verdict_unknown(world: World) -> None:
    world.add_pod(make_pod("dns", "kube-system", {}, "10.1.0.53"))
    world.index.forget("dns")
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    assert (await verdict(world, "web"))[0] == "connects"


async def test_what_the_api_shows_and_the_table_does_not_have_yet_is_told(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    world.objects.append(web_slice(make_endpoint(SERVER), make_endpoint("10.1.0.3")))
    explanation = await world.explain("client", "web")
    assert rows(explanation)[1] == ("10.1.0.3", False, "not in the compiled table yet")
    world.objects.append(web_slice(make_endpoint("10.1.0.3")))
    explanation = await world.explain("client", "web")
    assert (SERVER, True, "in the compiled table") in rows(explanation)
    assert any("does not show any more" in note for note in explanation["notes"])


async def test_the_kernels_words_are_told(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    world.apply(make_policy("in", selector={"matchLabels": {"app": "server"}}))
    one = {"protocol": "TCP", "source": CLIENT, "sourcePort": 1, "endpoint": SERVER, "endpointPort": 8080}
    listed = [one | {"port": 80, "answered": True}, one | {"port": 80, "answered": False}]
    listed += [one | {"port": 81, "answered": True}, one | {"port": 80, "answered": True, "protocol": "UDP"}]
    world.answers["client"] = lambda _: {"tables": {}, "connections": listed, "drops": {"egress": 0, "ingress": 3}}
    world.answers["server"] = lambda _: {"tables": {}, "drops": {"ingress": 12, "egress": 0}}
    explanation = await world.explain("client", "web")
    assert explanation["seen"] == {"connections": 2, "answered": 1, "byEndpoint": {f"{SERVER}:8080": 2}}
    assert [(item["direction"], item["drops"]) for item in explanation["policies"]] == [
        ("egress", None),
        ("ingress", 12),
    ]
    assert world.asked == [("client", "10.96.0.2"), ("server", "")]


async def test_an_answer_comes_without_the_agent_too(world: World) -> None:
    world.answers["client"] = lambda _: b"unreachable"
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["verdict"]["connects"] and "seen" not in explanation
    assert explanation["source"]["agent"] == "no route to host"
    assert explanation["notes"] == [
        "no route to host: what is said here is what was compiled for it, not what its kernel has"
    ]
    owned = world.records["client"].owned
    assert owned is not None
    owned.link.session = None
    assert "has no session" in (await world.explain("client", "pod/server:80"))["source"]["agent"]


HOSTILE = [
    b"",
    b"{",
    b"[" * 100_000,
    b"\xff\xfe",
    b"null",
    b'{"tables": []}',
    b'{"tables": {"services": {"revision": "\\u001b[2J", "error": "", "waiting": 0, "counts": {}}}}',
    b'{"tables": {}, "connections": [{"protocol": "\\u001b]0;x\\u0007"}]}',
    b'{"tables": {}, "drops": {"egress": 1e400}}',
    b'{"tables": {}, "drops": {"egress": -1}}',
    b'{"tables": {}, "connections": ' + b"[" + b",".join([b"{}"] * 2000) + b"]}",
    b'{"tables": {}, "x": "' + b"x" * 1_000_000 + b'"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_an_agent_that_says_what_it_may_not_is_silent(world: World, body: bytes) -> None:
    world.answers["client"] = lambda _: body
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["verdict"]["connects"] and "seen" not in explanation
    assert explanation["source"]["agent"].startswith("the pod's agent answers with what it may not say (")
    assert explanation["source"]["agent"].isprintable()


async def test_the_words_of_an_agents_error_are_one_line(world: World) -> None:
    info = {"revision": "", "error": "bad\n\x1b[2Jthing" + "x" * 900, "waiting": 0, "counts": {}}
    world.answers["client"] = lambda _: {"tables": {"services": info}}
    (note,) = (await world.explain("client", "pod/server:80"))["notes"]
    assert note.isprintable() and "bad??[2Jthing" in note and len(note) < 300


async def test_an_api_server_that_does_not_answer_is_an_error_of_the_question(world: World) -> None:
    world.api_error = KubeApiError(0, "Timeout", "no answer within 10 s")
    with pytest.raises(KubeApiError):
        await world.explain("client", "web")
    assert (await world.explain("client", "pod/server:80"))["verdict"]["connects"]


async def test_a_question_comes_to_an_end_in_its_time_and_so_does_waiting_for_a_turn(world: World) -> None:
    never = asyncio.Event()

    async def get(path: str, query: object = None, timeout_s: float = 30) -> Json:
        await never.wait()
        return {}

    world.get = get
    world.explainer = NetExplainer(world.sources, limit_s=0.01)
    asked = await asyncio.gather(
        *(world.explain("client", "web") for _ in range(AT_ONCE)),
        world.explain("client", "pod/server:80"),
        return_exceptions=True,
    )
    assert [type(item) for item in asked] == [TimeoutError] * (AT_ONCE + 1)
    assert (await NetExplainer(world.sources).explain("client", "pod/server:80", ""))["verdict"]["connects"]


async def test_a_pod_that_is_gone_is_a_bad_question(world: World) -> None:
    with pytest.raises(QuestionError, match="the pod is gone"):
        await world.explain("nobody", "web")
