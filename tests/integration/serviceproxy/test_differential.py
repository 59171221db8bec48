"""The real kube-proxy as the judge: the same objects and changes into both, the same connections tried."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.serviceproxy.affinity import AffinityWatch, make_lasting
from tests.integration.serviceproxy.bed import remove_abandoned
from tests.integration.serviceproxy.shrink import shrink
from tests.integration.serviceproxy.sides import Question, Sides, fails_more_often, list_questions
from tests.service_history import LONG_AFFINITY_S, SHORT_AFFINITY_S, Objects, generate_history

pytestmark = pytest.mark.real

SEEDS = int(os.environ.get("VK_SERVICE_SEEDS", "2"))
"""More by hand."""
BATCHES, LANES, STEPS = 2, 50, 2
"""100 histories a seed: in each step those of a batch are side by side, with addresses of their own, and the next batch
is a change of everything."""
SHARE = 0.15
"""Of the kinds of clients that ask, besides the first of each question."""


def generate_steps(seed: int, lanes: int = LANES) -> Iterator[list[Objects]]:
    for batch in range(BATCHES):
        first = seed * 1000 + batch * lanes
        for states in zip(*(generate_history(first + lane, lane, STEPS) for lane in range(lanes)), strict=True):
            yield [*states, make_lasting()]


def join(states: list[Objects]) -> Objects:
    return {k: v for s, _ in states for k, v in s.items()}, {k: v for _, s in states for k, v in s.items()}


@pytest.mark.parametrize("seed", [101 * (number + 1) for number in range(SEEDS)])
def test_random_services_and_changes_are_answered_as_by_kube_proxy(seed: int, tmp_path: Path) -> None:
    remove_abandoned()
    chance = random.Random(seed)
    with Sides(tmp_path / "proxy") as sides:
        affinity = AffinityWatch(sides, chance)
        for step, states in enumerate(generate_steps(seed)):
            sides.set(join(states))
            questions: list[Question] = [item for state in states for item in list_questions(state, chance, SHARE)]
            assert {item.protocol for item in questions} == {"TCP", "UDP", "SCTP"}
            found = sides.differences(questions)
            if found:
                case = shrink(sides, states, found)
                pytest.fail(f"seed {seed}, step {step}:\n" + "\n".join(found) + f"\n\nsmallest case:\n{case}")
            assert not affinity.follow(join(states)), f"seed {seed}, step {step}"
        assert not affinity.end()
    assert affinity.outcomes[SHORT_AFFINITY_S, "are free"] >= 2
    assert all(affinity.outcomes[timeout_s, "stay"] >= 4 for timeout_s in LONG_AFFINITY_S)


def test_what_a_broken_table_does_now_and_then_is_found(tmp_path: Path) -> None:
    remove_abandoned()
    seed, chance = 303, random.Random(303)
    with Sides(tmp_path / "proxy", spoil=spoil) as sides:
        affinity = AffinityWatch(sides, chance)
        states = next(generate_steps(seed, 3))
        sides.set(join(states))
        found = sides.differences([item for state in states for item in list_questions(state, chance, 0)])
        moved = [*affinity.follow(join(states)), *affinity.end()]
    sometimes = r"\n  ours   .*answered .*; (?:dropped|refused) \(\d+\)\n  theirs answered"
    for fault in (
        r"protocol='(TCP|UDP)', target='\d+\..*" + sometimes,
        r"protocol='(TCP|UDP)', target='\w+:.*" + sometimes,
        r"protocol='SCTP'.*\n.*\n  theirs answered",
    ):
        assert any(re.search(fault, line) for line in found), (fault, found)
    assert any(line.endswith("ours stay, theirs are free") for line in moved), moved


def spoil(text: str) -> str:
    """Known faults. IPv4: each choice among endpoints has one slot too many, behind which is nobody. IPv6: one of
    ten connections is dropped. SCTP is for the next port. Affinity does not end."""
    text = re.sub(r"numgen random mod (\d+)(?= meta l4proto [^d]*dnat ip to)", _add_one, text)
    text = re.sub(r"(?<= \. 132 \. )(\d+)(?= : )", _add_one, text)
    text = text.replace(f"timeout {SHORT_AFFINITY_S}s", "timeout 3h")
    return f"{text}insert rule inet vk-services services ip6 daddr @cluster-ips6 numgen random mod 10 == 0 drop\n"


def _add_one(found: re.Match[str]) -> str:
    return found[0].replace(found[1], str(int(found[1]) + 1))


@pytest.mark.parametrize(
    ("ours", "theirs", "differs"),
    [
        (0, 0, False),
        (60, 60, False),
        (3, 0, False),
        (20, 0, True),  # one of three
        (0, 20, True),
        (12, 0, True),  # one of five
        (30, 24, False),
        (60, 30, True),
    ],
)
def test_the_bound_of_shares_where_both_fail_at_times(ours: int, theirs: int, differs: bool) -> None:
    assert fails_more_often(ours, theirs, 60) is differs
