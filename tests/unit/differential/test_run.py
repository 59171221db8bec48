"""A run: what it counts, what it plays again, what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.arena import Pair
from tests.differential.case import Case
from tests.differential.difference import Difference
from tests.differential.grammar.generate import build
from tests.differential.known import KNOWN, Known, unexplained
from tests.differential.report import Kind, table
from tests.differential.run import Plan, Run

STEADY = Difference("status.phase: A / B", "A", "B")
FLAKY = Difference("event X", "1", "2")


class Node:
    """Stands for two nodes: answers with the differences a case's features name; a flaky one shows once."""

    def __init__(self) -> None:
        self.played: list[Case] = []

    async def play(self, case: Case) -> Pair:
        self.played.append(case)
        found = []
        if "hostNetwork" in case.pod["spec"]:
            found.append(STEADY)
        if case.pod["spec"].get("priority") == 0 and len(self.played) == 1:
            found.append(FLAKY)
        return Pair(case, found, refused="no" if "ports" in case.features else "")


def plan(tmp_path: Path, *parts: tuple[str, ...], known: tuple[Known, ...] = (), trials: int = 0) -> Plan:
    cases = [build(f"1-{number}", f"1-{number}", part) for number, part in enumerate(parts)]
    return Plan(cases, "1", 1, tmp_path, known, trials=trials)


async def test_a_difference_that_a_second_run_shows_again_is_confirmed_and_shrunk(tmp_path: Path) -> None:
    node = Node()
    run = Run(plan(tmp_path, ("host-network", "dns"), trials=20), node.play)
    assert await run.execute() == 1
    kind = run.kinds[STEADY.kind]
    assert kind.confirmed and kind.pairs == ["1-0"]
    assert set(kind.case.pod["spec"]) == {"terminationGracePeriodSeconds", "containers", "hostNetwork"}
    written = (tmp_path / f"{kind.slug}.yaml").read_text()
    assert "# " + STEADY.kind in written and "hostNetwork: true" in written
    assert "status.phase: A / B" in (tmp_path / "results.md").read_text()


async def test_an_interrupted_run_writes_the_smallest_case_that_it_has_found(tmp_path: Path) -> None:
    node = Node()

    async def play(case: Case) -> Pair:
        if not case.features:  # the manifest itself is being reduced
            raise ConnectionError("interrupted")
        return await node.play(case)

    run = Run(plan(tmp_path, ("host-network", "dns"), trials=20), play)
    with pytest.raises(ConnectionError):
        await run.execute()
    [kind] = run.kinds.values()
    assert kind.case.features == ("host-network",)
    assert "dnsPolicy" not in (tmp_path / f"{kind.slug}.yaml").read_text()


async def test_one_that_does_not_come_again_is_listed_and_fails_nothing(tmp_path: Path) -> None:
    run = Run(plan(tmp_path, ("priority",)), Node().play)
    assert await run.execute() == 0
    assert not run.kinds[FLAKY.kind].confirmed
    assert "Shown once" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(("late", "counts"), [(1, (1, 0)), (99, (0, 1))])
async def test_a_pair_is_played_again_while_the_machine_does_not_keep_up_and_given_up_at_last(
    tmp_path: Path, late: int, counts: tuple[int, int]
) -> None:
    played = []

    async def play(case: Case) -> Pair:
        played.append(case)
        is_late = len(played) <= late
        return Pair(case, [STEADY] if is_late else [], late_s=3.0 if is_late else 0.1)

    run = Run(plan(tmp_path, ("dns",)), play)
    assert await run.execute() == 0
    assert (run.counts.played, run.counts.void) == counts
    assert not run.kinds


async def test_a_pair_that_the_api_server_refuses_on_both_sides_is_counted_apart(tmp_path: Path) -> None:
    run = Run(plan(tmp_path, ("ports",), ("dns",)), Node().play)
    assert await run.execute() == 0
    assert (run.counts.played, run.counts.refused, run.counts.equal) == (2, 1, 1)


async def test_what_is_known_is_no_finding_and_an_entry_that_is_not_seen_any_more_is(tmp_path: Path) -> None:
    case = build("e", "e", ("host-network",))

    class Entry(Known):
        def case(self) -> Case:
            return case

    true = Entry("phases", r"status\.phase", "because", "")
    assert await Run(plan(tmp_path, ("host-network",), known=(true,)), Node().play).execute() == 0
    untrue = Entry("gone", r"never seen", "because", "")
    run = Run(plan(tmp_path, ("dns",), known=(untrue,)), Node().play)
    assert await run.execute() == 1
    assert run.untrue == ["gone"]


def test_every_known_difference_has_a_reason_and_a_case_that_shows_it() -> None:
    assert len({entry.name for entry in KNOWN}) == len(KNOWN)
    for entry in KNOWN:
        assert entry.reason and entry.case().pod["kind"] == "Pod"


def test_a_matcher_explains_by_the_beginning_of_the_kind() -> None:
    entry = Known("x", r"status\.", "because", "")
    assert unexplained([STEADY, FLAKY], [entry]) == [FLAKY]


def test_that_an_image_is_pulled_for_other_pods_is_known() -> None:
    waiting = Difference("event Normal WaitingForImages: other pods are pulling the same images (only here)", "1", "-")
    failed = Difference("event Warning WaitingForImages: other pods are pulling the same images (only here)", "1", "-")
    assert unexplained([waiting, failed]) == [failed]


def test_the_table_is_aligned_and_begins_with_what_came_again() -> None:
    case = build("1-0", "1-0", ("dns",))
    text = table([Kind(FLAKY, case, ["a"]), Kind(STEADY, case, ["a", "b"], confirmed=True)])
    lines = text.splitlines()
    assert lines[1].split()[:2] == ["2", "again"] and lines[2].split()[:2] == ["1", "once"]
    assert len({line.index("dns") for line in lines[1:]}) == 1
