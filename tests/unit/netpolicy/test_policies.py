"""What single policies mean, case by case."""

from __future__ import annotations

import pytest

from tests.policy_worlds import SUBJECT, make_pod, make_policy
from tests.unit.netpolicy.reading import IndexedWorld, accepts, compile_for, make_subject
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.index import PolicyIndex
from vk_provider.netpolicy.table import Table

NOBODY = "192.0.2.1"


def isolates(table: Table) -> tuple[bool, bool]:
    """Ingress, egress: whether somebody unknown is kept out."""
    return not accepts(table, "ingress", NOBODY), not accepts(table, "egress", NOBODY)


@pytest.mark.parametrize(
    "spec, ingress, egress",
    [
        ({}, True, False),
        ({"ingress": []}, True, False),
        ({"egress": [{"to": [{"podSelector": {}}]}]}, True, True),
        ({"egress": []}, True, False),
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, False, True),
        ({"policyTypes": ["Ingress", "Egress"]}, True, True),
        ({"policyTypes": ["Ingress"], "egress": [{"ports": [{"port": 1}]}]}, True, False),
        ({"ingress": [{}]}, False, False),
    ],
)
def test_the_types_of_a_policy_default_to_what_it_has(spec: Json, ingress: bool, egress: bool) -> None:
    assert isolates(compile_for(make_subject(), [make_policy("p", **spec)])) == (ingress, egress)


def test_without_a_policy_everything_passes_and_all_such_pods_have_one_table() -> None:
    table = compile_for(make_subject(), [make_policy("p", "b"), make_policy("q", "a", {"matchLabels": {"app": "db"}})])
    assert isolates(table) == (False, False) and accepts(table, "egress", "::1", "ICMP")
    assert table.revision == compile_for(make_pod(SUBJECT, "z", {}, "10.1.0.9"), []).revision
    assert table.revision != compile_for(make_subject(), [make_policy("p")]).revision


def test_policies_add_up() -> None:
    policies = [
        make_policy("deny"),
        make_policy("one", ingress=[{"ports": [{"port": 80}]}]),
        make_policy("two", ingress=[{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 81}]}]),
    ]
    table = compile_for(make_subject(), policies)
    assert [accepts(table, "ingress", NOBODY, "TCP", port) for port in (80, 81, 82)] == [True, True, False]
    assert not accepts(table, "ingress", "192.0.3.1", "TCP", 81)


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{}]},
        {"from": [{"ipBlock": {"cidr": "nonsense"}}]},
        {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["nonsense"]}}]},
        {"ports": [{"protocol": "ICMP"}]},
        {"ports": [{"port": 80, "endPort": 79}]},
        {"ports": [{"endPort": 80}]},
        {"ports": [{"port": "web", "endPort": 80}]},
        {"ports": [{"port": True}]},
        {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}]},
    ],
)
def test_what_cannot_be_read_lets_nobody_in(rule: Json) -> None:
    peer = make_pod("peer", "a", {"app": "db"}, NOBODY)
    table = compile_for(make_subject(), [make_policy("p", ingress=[rule])], [peer])
    assert not any(accepts(table, "ingress", NOBODY, "TCP", port) for port in (1, 79, 80, 65535))


def test_icmp_passes_only_where_a_rule_names_no_ports() -> None:
    peer = {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    everything = compile_for(make_subject(), [make_policy("p", ingress=[peer])])
    ports = compile_for(make_subject(), [make_policy("p", ingress=[peer | {"ports": [{"protocol": "TCP"}]}])])
    assert accepts(everything, "ingress", NOBODY, "ICMP") and not accepts(ports, "ingress", NOBODY, "ICMP")
    assert accepts(ports, "ingress", NOBODY, "TCP", 65535)


def test_a_port_by_name_is_the_pods_own_on_ingress() -> None:
    ports = [{"name": "web", "containerPort": 8080}, {"name": "web", "containerPort": 9090}]
    policy = make_policy("p", ingress=[{"ports": [{"port": "web"}, {"port": "web", "protocol": "UDP"}]}])
    table = compile_for(make_subject(ports=ports), [policy])
    assert accepts(table, "ingress", NOBODY, "TCP", 8080)  # the first of two
    assert not accepts(table, "ingress", NOBODY, "TCP", 9090) and not accepts(table, "ingress", NOBODY, "UDP", 8080)


def test_a_sidecars_port_counts_and_another_init_containers_does_not() -> None:
    subject = make_subject()
    subject["spec"]["initContainers"] = [
        {"ports": [{"name": "init", "containerPort": 1}]},
        {"ports": [{"name": "side", "containerPort": 2}], "restartPolicy": "Always"},
    ]
    policy = make_policy("p", ingress=[{"ports": [{"port": "init"}, {"port": "side"}]}])
    table = compile_for(subject, [policy])
    assert [accepts(table, "ingress", NOBODY, "TCP", port) for port in (1, 2)] == [False, True]


def test_a_port_by_name_is_the_answering_pods_on_egress_whatever_names_the_peer() -> None:
    peers = [
        make_pod("x", "b", {}, "192.0.2.1", ports=[{"name": "web", "containerPort": 80}]),
        make_pod("y", "b", {}, "192.0.2.2", ports=[{"name": "web", "containerPort": 81}]),
        make_pod("z", "b", {}, "192.0.3.3", ports=[{"name": "web", "containerPort": 82}]),
    ]
    for to, far in (({}, True), ({"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}, False)):
        policy = make_policy("p", egress=[to | {"ports": [{"port": "web"}]}])
        table = compile_for(make_subject(), [policy], peers)
        assert [accepts(table, "egress", f"192.0.2.{n}", "TCP", 79 + n) for n in (1, 2, 3)] == [True, True, False]
        assert accepts(table, "egress", "192.0.3.3", "TCP", 82) is far
        assert not accepts(table, "egress", "192.0.2.1", "TCP", 81)


def test_an_address_of_two_pods_may_what_either_may() -> None:
    """One terminates while another has its address already."""
    policy = make_policy("p", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}])
    index = IndexedWorld()
    world_pods = [make_pod("old", "a", {"app": "db"}, NOBODY), make_pod("new", "a", {"app": "x"}, NOBODY)]
    assert accepts(compile_for(make_subject(), [policy], world_pods), "ingress", NOBODY)
    assert not accepts(compile_for(make_subject(), [policy], world_pods[1:]), "ingress", NOBODY)
    assert index.index.is_compiled


def test_what_is_needed_of_the_cluster_follows_from_the_policies_that_select_our_pods() -> None:
    def needs(*policies: Json) -> tuple[bool, bool]:
        index = PolicyIndex()
        index.follow(SUBJECT, make_subject(ports=[{"name": "web", "containerPort": 80}]))
        for item in policies:
            index.apply_policy(item)
        assert (index.names_pods(), index.names_namespaces()) == (
            index.names_pods(SUBJECT),
            index.names_namespaces(SUBJECT),
        )
        return index.names_pods(), index.names_namespaces()

    pods, namespaces = {"podSelector": {}}, {"namespaceSelector": {}}
    block = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    web = [{"port": "web"}]
    assert needs() == needs(make_policy("p", ingress=[{"from": [block], "ports": web}])) == (False, False)
    assert needs(make_policy("p", "b", ingress=[{"from": [pods]}])) == (False, False)
    assert needs(make_policy("p", policyTypes=["Ingress"], egress=[{"to": [pods]}])) == (False, False)
    assert needs(make_policy("p", ingress=[{"from": [pods]}])) == (True, False)
    assert needs(make_policy("p", egress=[{"to": [block], "ports": web}])) == (True, False)
    assert needs(make_policy("p", egress=[{"to": [namespaces]}])) == (True, True)


def test_rules_that_overlap_in_too_many_ways_allow_nothing_and_cost_little() -> None:
    rules = [
        {
            "from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"10.{n >> 8}.{n & 255}.1/32"]}}],
            "ports": [{"port": n}],
        }
        for n in range(1, 15000)
    ]
    index = PolicyIndex()
    index.apply_policy(make_policy("p", ingress=rules))
    index.follow(SUBJECT, make_subject())
    index.follow("other", make_pod("other", "b", {}, "10.0.0.1"))
    assert index.is_too_large(SUBJECT) and not index.is_too_large("other")
    assert isolates(index.table(SUBJECT)) == (True, False)
    index.apply_policy(make_policy("p", ingress=rules[:100]))
    assert not index.is_too_large(SUBJECT) and accepts(index.table(SUBJECT), "ingress", NOBODY, "TCP", 100)


def test_pods_with_the_same_policies_share_one_table() -> None:
    index = PolicyIndex()
    index.apply_policy(make_policy("p", ingress=[{"ports": [{"port": "web"}]}]))
    for uid, port in (("u", 80), ("v", 80), ("w", 81)):
        index.follow(uid, make_pod(uid, "a", {"name": uid}, "10.0.0.1", ports=[{"name": "web", "containerPort": port}]))
    assert index.take_changed() == {"u", "v", "w"}
    assert index.table("u") is index.table("v") and index.table("u").revision != index.table("w").revision
    index.apply_policy(make_policy("p", ingress=[{"ports": [{"port": 81}]}]))
    assert index.take_changed() == {"u", "v", "w"}
    assert index.table("u") is index.table("w")
    index.forget("u")
    index.remove_policy("a", "p")
    assert index.take_changed() == {"v", "w"} and index.policies_of("v") == ()
    assert index.take_changed() == set()
