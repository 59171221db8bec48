"""What is said of names that DNS decides: headless Services, external names, names outside."""

from __future__ import annotations

import pytest

from tests.policy_worlds import make_policy
from tests.service_objects import make_endpoint, make_port, make_service
from tests.unit.explaining.rig import DNS, World
from tests.unit.explaining.saying import CLIENT, SERVER, WEB, headless, pod, verdict, web_slice
from vk_provider.jsontypes import Json


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
