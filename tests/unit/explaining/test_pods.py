"""What is said of pods and addresses."""

from __future__ import annotations

import pytest

from tests.policy_worlds import make_policy
from tests.service_objects import make_endpoint, make_service
from tests.unit.explaining.rig import World
from tests.unit.explaining.saying import CLIENT, SERVER, WEB, pod, verdict, web_slice
from vk_provider.explain.report import render
from vk_provider.explain.target import QuestionError
from vk_provider.jsontypes import Json


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
