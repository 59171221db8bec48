"""What is said of one connection is what the table does and what the API's words say, with the rule that allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.policy_words import allows, list_types
from tests.policy_worlds import CLIENTS, PEERS4, PEERS6, SUBJECT, World, generate_history, make_pod, make_policy
from tests.service_objects import NODE4, NODE6
from tests.unit.netpolicy.reading import NUMBERS, IndexedWorld, accepts, make_subject
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.index import PolicyIndex
from vk_provider.netpolicy.judgement import Connection, Judgement, TableReader
from vk_provider.netpolicy.policy import Direction, parse_policy
from vk_provider.netpolicy.table import Key, Table
from vk_provider.netpolicy.words import describe_rule

ADDRESSES = [*PEERS4, *PEERS6, *CLIENTS, NODE4, NODE6]


def find_direction(name: str) -> Direction:
    return "ingress" if name == "ingress" else "egress"


def is_rule_about(world: World, judgement: Judgement, connection: Connection, protocol: str) -> bool:
    """Whether the rule that was named allows the connection by the API's words."""
    assert judgement.rule is not None
    policy = world.policies[judgement.rule.policy]
    rule = policy["spec"][connection.direction][judgement.rule.number - 1]
    alone = World(world.namespaces, world.pods, {"a/alone": make_policy("alone", "a")})
    alone.policies["a/alone"]["spec"] |= {
        "policyTypes": [connection.direction.capitalize()],
        connection.direction: [rule],
    }
    alone.policies["a/alone"]["metadata"]["namespace"] = policy["metadata"]["namespace"]
    return allows(alone, SUBJECT, connection.direction, connection.address, protocol, connection.port)


@pytest.mark.parametrize("seed", range(12))
def test_a_judgement_is_what_the_table_and_the_words_of_the_api_say(seed: int) -> None:
    indexed = IndexedWorld()
    for world in generate_history(seed, 6):
        table = indexed.set(world)
        for name in ("ingress", "egress"):
            for address in ADDRESSES:
                for protocol in ("TCP", "UDP"):
                    for port in (8080, 8081, 8082):
                        connection = Connection(find_direction(name), address, NUMBERS[protocol], port)
                        judgement = indexed.index.judge(SUBJECT, connection)
                        wanted = allows(world, SUBJECT, name, address, protocol, port)
                        assert judgement.allowed == accepts(table, name, address, protocol, port) == wanted, connection
                        assert set(judgement.isolated_by) == isolating(world, name)
                        assert (judgement.rule is not None) == bool(wanted and judgement.isolated_by), connection
                        if judgement.rule is not None:
                            assert is_rule_about(world, judgement, connection, protocol), (connection, judgement)


def isolating(world: World, direction: str) -> set[str]:
    pod = world.pods[SUBJECT]
    nobody = World(world.namespaces, world.pods, {})
    found = set()
    for key, policy in world.policies.items():
        nobody.policies = {key: policy | {"spec": {**policy["spec"], "ingress": [], "egress": []}}}
        nobody.policies[key]["spec"]["policyTypes"] = [name.capitalize() for name in list_types(policy)]
        if not allows(nobody, SUBJECT, direction, pod["status"]["podIP"], "TCP", 1):
            found.add(key)
    return found


def test_a_pod_of_the_hosts_network_is_judged_by_no_policy() -> None:
    index = PolicyIndex()
    index.apply_policy(make_policy("deny", policyTypes=["Ingress", "Egress"]))
    index.follow("p", make_subject(hostNetwork=True))
    assert index.judge("p", Connection("egress", "192.0.2.1", 6, 80)) == Judgement((), True, None, False)


def test_policies_that_are_too_large_allow_nothing_and_it_is_said() -> None:
    index = PolicyIndex()
    rules: list[Json] = [
        {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"10.0.{n // 250}.{n % 250}/32"]}}]} for n in range(700)
    ]
    index.apply_policy(
        make_policy(
            "large", policyTypes=["Ingress", "Egress"], ingress=[*rules, {}], egress=[{"ports": [{"port": 80}]}]
        )
    )
    index.follow("p", make_subject())
    judgement = index.judge("p", Connection("ingress", "192.0.2.1", 6, 80))
    assert (judgement.allowed, judgement.too_large, judgement.isolated_by) == (False, True, ("a/large",))
    assert judgement.rule is None, "it would allow it, and is not in force"
    other = index.judge("p", Connection("egress", "192.0.2.1", 6, 81))
    assert (other.allowed, other.too_large) == (False, False), "the other direction is compiled"
    assert index.judge("p", Connection("egress", "192.0.2.1", 6, 80)).allowed


def test_what_was_asked_in_between_hides_no_change_from_the_other_pods_of_a_table() -> None:
    """A look at one pod's table brings it up to date: the others that share it must be told nevertheless."""
    index = PolicyIndex()
    index.apply_policy(make_policy("in", ingress=[{"from": [{"podSelector": {}}]}]))
    for uid in ("one", "two"):
        index.follow(uid, make_subject())
    assert index.take_changed() == {"one", "two"}
    index.apply_pod("peer", make_pod("peer", "a", {}, "10.1.0.9"))
    assert index.judge("one", Connection("ingress", "10.1.0.9", 6, 80)).allowed
    assert index.take_changed() == {"one", "two"}
    assert index.take_changed() == set()


class CountedVerdicts(dict[Key, str]):
    """How often it is read as a whole."""

    readings = 0

    def items(self) -> Any:
        self.readings += 1
        return super().items()


def test_a_table_is_read_once_for_many_connections() -> None:
    index = PolicyIndex()
    block = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.7/32"]}
    index.apply_policy(make_policy("in", ingress=[{"from": [{"ipBlock": block}, {"podSelector": {}}]}]))
    index.follow("p", make_subject())
    index.apply_pod("peer", make_pod("peer", "a", {}, "10.1.0.9"))
    table = index.table("p")
    verdicts = CountedVerdicts(table.verdicts)
    reader = TableReader(replace(table, verdicts=verdicts))
    ends = {
        "9.255.255.255": False,
        "10.0.0.0": True,
        "10.0.255.255": True,
        "10.1.0.0": False,
        "10.1.0.9": True,
        "10.1.255.255": False,
        "10.2.0.6": True,
        "10.2.0.7": False,
        "10.2.0.8": True,
        "10.255.255.255": True,
        "11.0.0.0": False,
        "fd00::1": False,
    }
    for address, allowed in ends.items():
        connection = Connection("ingress", address, 6, 80)
        assert reader.accepts(connection) == allowed == index.judge("p", connection).allowed, address
    assert verdicts.readings == 1


def test_the_index_reads_a_table_again_when_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Table] = []

    class Reader(TableReader):
        def __init__(self, table: Table) -> None:
            read.append(table)
            super().__init__(table)

    monkeypatch.setattr("vk_provider.netpolicy.index.TableReader", Reader)
    index = PolicyIndex()
    index.apply_policy(make_policy("in", ingress=[{"from": [{"podSelector": {}}]}]))
    index.follow("p", make_subject())
    connection = Connection("ingress", "10.1.0.9", 6, 80)
    assert [index.judge("p", connection).allowed for _ in range(3)] == [False] * 3 and len(read) == 1
    index.apply_pod("peer", make_pod("peer", "a", {}, "10.1.0.9"))
    assert [index.judge("p", connection).allowed for _ in range(3)] == [True] * 3 and len(read) == 2


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "from anybody; all ports"),
        (
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 80}]},
            "from pods app=web in a; TCP 80",
        ),
        (
            {"from": [{"namespaceSelector": {}}], "ports": [{"port": 1, "endPort": 9}, {"protocol": "UDP"}]},
            "from all pods in all namespaces; TCP 1-9, UDP all ports",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9"]}}], "ports": [{"port": "web"}]},
            "from 10.128.0.0/9; TCP web",
        ),
        (
            {
                "from": [
                    {
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "a", "operator": "In", "values": ["b", "c"]},
                                {"key": "d", "operator": "DoesNotExist"},
                            ]
                        },
                        "namespaceSelector": {"matchLabels": {"team": "x"}},
                    }
                ]
            },
            "from pods a in (b,c),!d in namespaces team=x; all ports",
        ),
        ({"from": [{"ipBlock": {"cidr": "bad"}}]}, "from nobody; all ports"),
        (
            {"from": [{"ipBlock": {"cidr": f"10.{n}.0.0/32"}} for n in (1, 3, 5, 7, 9)]},
            "from 10.1.0.0, 10.3.0.0, 10.5.0.0, 2 more; all ports",
        ),
    ],
)
def test_a_rule_is_told_in_words(rule: Json, words: str) -> None:
    policy = parse_policy(make_policy("p", ingress=[rule]))
    assert describe_rule("ingress", policy.rules["ingress"][0]) == words
