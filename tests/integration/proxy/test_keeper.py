"""The agent's tables with the real nft and the real kernel: applied, read back, kept over a restart."""

from __future__ import annotations

import pytest

from tests.integration.proxy.kept import OWN, POD, Compiled, Kept
from tests.integration.serviceproxy.clients import Answer, Attempt
from tests.service_objects import NODE4, make_endpoint, make_port, make_service, make_slice
from vk_provider.wire.tables import TableMessage

pytestmark = pytest.mark.real

SERVICE = make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
FIRST, SECOND = make_endpoint("10.1.0.1"), make_endpoint("10.1.128.1", "n2")


def answers(kept: Kept, target: str = "10.96.0.2", port: int = 80, source: str = POD) -> set[Answer]:
    return set(kept.bed.connect([Attempt(source, "TCP", target, port)] * 10, 1.5))


def endpoints(kept: Kept) -> set[str]:
    return {answer.endpoint for answer in answers(kept)}


def make_policy(number: int, rule: str = "accept") -> TableMessage:
    """A table of the other name; what is in it does not matter here."""
    text = (
        "add table inet vk-policy\nadd set inet vk-policy revision { type ipv6_addr ; }\n"
        "flush set inet vk-policy revision\n"
        "add chain inet vk-policy forward { type filter hook forward priority 10 ; }\n"
        f"flush chain inet vk-policy forward\nadd rule inet vk-policy forward {rule}\n"
        f"add element inet vk-policy revision {{ ::{number} }}\n"
    )
    return {"type": "table", "name": "policy", "base": "", "revision": f"::{number}", "text": text}


def test_a_whole_table_is_in_force_with_what_this_instance_adds_to_it(kept: Kept, compiled: Compiled) -> None:
    assert kept.keeper.states() == {"services": "", "policy": ""}
    assert list(kept.keeper.missing(["services", "policy"])) == ["services", "policy"]
    told = kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    in_force = {"services": compiled.table.revision, "policy": ""}
    assert told == {"type": "tables", "tables": in_force, "name": "services"}
    assert list(kept.keeper.missing(["services", "policy"])) == ["policy"]
    # the pod keeps its source; at the Node's and at the instance's own address node ports are answered
    assert answers(kept) == {Answer("answered", "10.1.0.1/8080", POD)}
    assert answers(kept, NODE4, 30080) == {Answer("answered", "10.1.0.1/8080", NODE4)}
    assert OWN in kept.bed.run_node("nft", "list", "set", "inet", "vk-services", "nodeport-ips4")


def test_texts_that_wait_are_applied_in_their_order(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    messages = [compiled.change(make_slice("a", *each)) for each in ((SECOND,), (FIRST, SECOND), (), (SECOND,))]
    told = kept.apply(*messages)
    assert told["tables"]["services"] == compiled.table.revision == messages[-1]["revision"]
    assert endpoints(kept) == {"10.1.128.1/8080"}
    assert kept.count("applied") == 5


def test_a_whole_text_replaces_what_waits_before_it(kept: Kept, compiled: Compiled) -> None:
    first = compiled.whole(SERVICE, make_slice("a", FIRST))
    wrong = {**compiled.change(make_slice("a", SECOND)), "base": "::1"}
    kept.send(first, wrong, compiled.whole())
    kept.wait(lambda: kept.keeper.states()["services"] == compiled.table.revision)
    assert kept.count("refused") == 0 and endpoints(kept) == {"10.1.128.1/8080"}


def test_a_difference_to_another_revision_changes_nothing_and_the_word_names_what_is_in_force(
    kept: Kept, compiled: Compiled
) -> None:
    other = Compiled()
    nothing = other.change(SERVICE)
    told = kept.refuse(nothing)
    assert told["tables"]["services"] == "" and "in force is none" in told["error"]
    assert kept.listed() == ""
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    before = kept.listed()
    told = kept.refuse(other.change(make_slice("a", SECOND)))
    assert told["tables"]["services"] == compiled.table.revision and "services: " in told["error"]
    assert kept.listed() == before
    told = kept.apply(compiled.change(make_slice("a", SECOND)))
    assert told["tables"]["services"] == compiled.table.revision


def test_a_text_that_nft_refuses_changes_nothing(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    before, in_force = kept.listed(), compiled.table.revision
    change = compiled.change(make_slice("a", SECOND))
    for base in (change["base"], ""):
        told = kept.refuse(
            {**change, "base": base, "text": change["text"] + "add rule inet vk-services nowhere drop\n"}
        )
        assert told["tables"]["services"] == in_force and "nft: " in told["error"]
        assert kept.listed() == before
    # A text that makes another revision than its message says is no success either.
    told = kept.refuse({**change, "revision": "::7"})
    assert told["tables"]["services"] == change["revision"] and "not ::7" in told["error"]


def test_a_table_of_another_form_is_made_anew(kept: Kept, compiled: Compiled) -> None:
    kept.bed.nft("table inet vk-services { set cluster-ips4 { type ipv4_addr . inet_service ; } ; }\n")
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    assert endpoints(kept) == {"10.1.0.1/8080"}


def test_both_tables_are_kept_side_by_side(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    told = kept.apply(make_policy(5, "tcp dport 8080 drop"))
    assert told["tables"] == {"services": compiled.table.revision, "policy": "::5"}
    assert {answer.kind for answer in answers(kept)} == {"dropped"}
    kept.apply(make_policy(6))
    assert {answer.kind for answer in answers(kept)} == {"answered"}


def test_rules_survive_the_agent_and_the_next_one_reads_their_revision(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    kept.restart()
    assert kept.keeper.states() == {"services": compiled.table.revision, "policy": ""}
    assert kept.keeper.missing(["services"]) == {}
    assert endpoints(kept) == {"10.1.0.1/8080"}
    kept.apply(compiled.change(make_slice("a", SECOND)))
    assert endpoints(kept) == {"10.1.128.1/8080"}


def test_after_a_reboot_nothing_is_in_force(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    kept.bed.nft("flush ruleset\n")
    kept.restart()
    assert kept.keeper.states() == {"services": "", "policy": ""}
    assert kept.keeper.missing(["services"]) == {"services": "it was not sent yet"}
