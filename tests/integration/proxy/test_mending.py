"""What others do to the agent's tables, with the real nft."""

from __future__ import annotations

import logging
import time

import pytest

from tests.integration.proxy.kept import Compiled, Kept
from tests.integration.proxy.test_keeper import FIRST, SECOND, SERVICE, endpoints, make_policy
from tests.integration.serviceproxy.clients import Attempt
from tests.service_objects import make_service, make_slice
from vk_provider.agent.proxy import keeper

pytestmark = pytest.mark.real

WITHIN_S = 1.0
CHANGES = {
    "flush-ruleset": "flush ruleset\n",
    "delete-table": "delete table inet vk-services\n",
    "delete-element": "delete element inet vk-services cluster-ips4 { 10.96.0.2 }\n",
    "add-element": "add element inet vk-services no-endpoint-services4 { 10.96.0.2 . tcp . 80 : drop }\n",
    "flush-map": "flush map inet vk-services service-ips4\n",
    "add-chain": "add chain inet vk-services mine { type filter hook forward priority 5 ; policy drop ; }\n",
    "delete-rules": "flush chain inet vk-services nat-prerouting\n",
    "revision": "flush set inet vk-services revision\n",
}


@pytest.fixture
def given(kept: Kept, compiled: Compiled) -> Kept:
    """A whole table and a difference are in force."""
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    kept.apply(compiled.change(make_slice("a", SECOND)))
    return kept


@pytest.mark.parametrize("text", CHANGES.values(), ids=CHANGES)
def test_what_somebody_else_changes_is_mended_within_a_second(
    given: Kept, compiled: Compiled, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, said = given.listed(), len(given.told)
    given.bed.nft(text)
    with caplog.at_level(logging.WARNING, keeper.log.name):
        given.wait(lambda: given.count("mended") == 1, WITHIN_S)
    assert given.listed() == before
    assert endpoints(given) == {"10.1.128.1/8080"}
    assert "changed by another program (nft), mended" in caplog.text
    assert len(given.told) == said  # nothing that the provider has to know
    given.apply(compiled.change(make_slice("a", FIRST)))
    assert endpoints(given) == {"10.1.0.1/8080"}


def test_own_texts_and_other_peoples_tables_are_no_change(given: Kept, compiled: Compiled) -> None:
    given.bed.nft("add table ip nat\nadd chain ip nat mine\nadd table inet other\nadd table ip vk-services\n")
    given.apply(make_policy(1))
    for each in (FIRST, SECOND):
        given.apply(compiled.change(make_slice("a", each)))
    time.sleep(0.3)
    assert given.count("mended") == given.count("reapplied") == given.count("mended", "policy") == 0


def test_only_the_table_that_was_changed_is_mended(given: Kept) -> None:
    given.apply(make_policy(1, "tcp dport 9 drop"))
    before = given.listed("vk-policy")
    given.bed.nft("flush chain inet vk-policy forward\n")
    given.wait(lambda: given.count("mended", "policy") == 1, WITHIN_S)
    assert given.listed("vk-policy") == before and given.count("mended") == 0


def test_a_difference_that_comes_with_the_change_is_applied_to_the_mended_table(
    given: Kept, compiled: Compiled
) -> None:
    given.bed.nft("flush ruleset\n")
    told = given.apply(compiled.change(make_slice("a", FIRST)))
    assert told["tables"]["services"] == compiled.table.revision
    assert endpoints(given) == {"10.1.0.1/8080"}


def test_a_whole_table_after_the_change_leaves_nothing_of_it(given: Kept, compiled: Compiled) -> None:
    given.bed.nft(CHANGES["add-chain"])
    given.apply(compiled.whole(make_slice("a", FIRST)))
    assert "chain mine" not in given.listed() and endpoints(given) == {"10.1.0.1/8080"}


def test_two_who_write_do_not_do_it_without_end(given: Kept) -> None:
    """The other one changes the table again as soon as it is mended."""
    deadline = time.monotonic() + 3
    seen = 0
    given.bed.nft(CHANGES["flush-map"])
    while time.monotonic() < deadline:
        if given.count("mended") > seen:
            seen = given.count("mended")
            given.bed.nft(CHANGES["flush-map"])
        time.sleep(0.01)
    assert 2 <= seen <= 4


def test_without_a_copy_the_provider_is_asked_for_the_whole_table(given: Kept, compiled: Compiled) -> None:
    for path in given._directory.iterdir():
        path.unlink()
    given.restart()
    assert given.keeper.states()["services"] == compiled.table.revision  # it is in force all the same
    said = len(given.told)
    given.bed.nft(CHANGES["flush-map"])
    given.wait(lambda: len(given.told) > said, WITHIN_S)
    assert given.told[-1]["tables"]["services"] == given.keeper.states()["services"] == ""
    assert "no copy" in given.told[-1]["error"] and "name" not in given.told[-1]
    told = given.apply(compiled.whole())
    assert told["tables"]["services"] == compiled.table.revision and endpoints(given) == {"10.1.128.1/8080"}


def test_the_next_agent_mends_from_the_copy_of_the_one_before(given: Kept) -> None:
    before = given.listed()
    given.restart()
    given.bed.nft("flush ruleset\n")
    given.wait(lambda: given.count("mended") == 1, WITHIN_S)
    assert given.listed() == before


def test_what_was_changed_while_no_agent_ran_is_put_right_after_the_start(
    given: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "START_CHECK_S", 0.2)
    before = given.listed()
    given._run(given._stop())
    given.bed.nft(CHANGES["flush-map"])
    given._begin()
    given.wait(lambda: given.count("reapplied") == 1)
    assert given.listed() == before


def test_a_change_that_nobody_announced_is_found_by_the_slow_look(given: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "START_CHECK_S", 0.0)
    monkeypatch.setattr(keeper, "CHECK_S", 0.5)
    given.restart()
    given.wait(lambda: given.count("reapplied") == 1)
    before = given.listed()
    monkeypatch.setattr(given.keeper._watch, "_take", lambda message: None)
    given.bed.nft(CHANGES["flush-map"])
    given.wait(lambda: given.count("reapplied") == 2)
    assert given.listed() == before


def test_more_announcements_than_can_be_kept_count_as_a_change(given: Kept) -> None:
    before = given.listed()
    elements = ", ".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(40_000))
    given.bed.nft(
        "add table inet other\nadd set inet other many { type ipv4_addr ; }\n"
        f"add element inet other many {{ {elements} }}\n"
        "flush map inet vk-services service-ips4\n"
    )
    given.wait(lambda: given.count("mended") + given.count("reapplied") == 1, 5)
    assert given.listed() == before
    given.bed.nft(CHANGES["flush-map"])  # it hears again
    given.wait(lambda: given.count("mended") >= 1, 5)
    assert given.listed() == before


def test_clients_keep_their_endpoint_when_a_table_is_made_once_more_in_case(
    kept: Kept, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    affine = make_service("b", "10.96.0.3", sessionAffinity="ClientIP")
    kept.apply(compiled.whole(affine, make_slice("b", FIRST, SECOND)))
    sources = [f"192.168.0.{n}" for n in range(1, 21)]

    def chosen() -> dict[str, str]:
        asked = [Attempt(source, "TCP", "10.96.0.3", 80) for source in sources]
        return {source: answer.endpoint for source, answer in zip(sources, kept.bed.connect(asked, 2.0), strict=True)}

    first = chosen()
    assert len(set(first.values())) == 2
    monkeypatch.setattr(keeper, "START_CHECK_S", 0.0)
    kept.restart()
    kept.wait(lambda: kept.count("reapplied") == 1)
    assert chosen() == first


def test_what_is_changed_while_an_own_text_is_applied_is_put_right(
    given: Kept, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens then; the kernel's count of transactions tells."""
    disturb(given, monkeypatch)
    given.apply(compiled.change(make_slice("a", FIRST)))
    given.wait(lambda: given.count("reapplied") == 1, WITHIN_S)
    assert endpoints(given) == {"10.1.0.1/8080"}
    disturb(given, monkeypatch)
    given.refuse({**compiled.change(make_slice("a", SECOND)), "text": "add rule inet vk-services nowhere drop\n"})
    given.wait(lambda: given.count("reapplied") == 2, WITHIN_S)
    assert endpoints(given) == {"10.1.0.1/8080"}


def test_the_first_text_is_made_once_more_when_others_were_at_work(
    kept: Kept, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(kept, monkeypatch)
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    kept.wait(lambda: kept.count("reapplied") == 1, WITHIN_S)
    assert endpoints(kept) == {"10.1.0.1/8080"}


def test_a_table_that_somebody_has_made_before_the_first_text_leaves_nothing(kept: Kept, compiled: Compiled) -> None:
    kept.bed.nft("add table inet vk-services\n" + CHANGES["add-chain"])
    time.sleep(0.3)
    assert kept.told == []
    kept.apply(compiled.whole(SERVICE, make_slice("a", FIRST)))
    assert "chain mine" not in kept.listed() and endpoints(kept) == {"10.1.0.1/8080"}


def disturb(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody makes a transaction while the next text is being applied."""
    nft = kept.keeper._tables["services"].nft
    apply = nft.apply

    async def apply_and_be_disturbed(text: str) -> None:
        monkeypatch.setattr(nft, "apply", apply)
        try:
            await apply(text)
        finally:
            kept.bed.nft(CHANGES["flush-map"])

    monkeypatch.setattr(nft, "apply", apply_and_be_disturbed)
