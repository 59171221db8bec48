"""The real kube-proxy as the judge: the same objects and changes into both, the same connections tried."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.serviceproxy.affinity import list_clients, make_objects, outcomes
from tests.integration.serviceproxy.bed import remove_abandoned
from tests.integration.serviceproxy.shrink import shrink
from tests.integration.serviceproxy.sides import Question, Sides, drops_more_often, list_questions
from tests.service_history import Objects, generate_history

pytestmark = pytest.mark.real

SEEDS = int(os.environ.get("VK_SERVICE_SEEDS", "2"))
"""More by hand; a seed takes a minute or two."""
BATCHES, LANES, STEPS = 5, 20, 3
"""100 histories a seed: in each step those of a batch are side by side, with addresses of their own, and each batch is
a change of everything to the next."""


def generate_steps(seed: int) -> Iterator[list[Objects]]:
    for batch in range(BATCHES):
        first = seed * 1000 + batch * LANES
        yield from map(list, zip(*(generate_history(first + lane, lane, STEPS) for lane in range(LANES)), strict=True))


def join(states: list[Objects]) -> Objects:
    return {k: v for s, _ in states for k, v in s.items()}, {k: v for _, s in states for k, v in s.items()}


@pytest.mark.parametrize("seed", [101 * (number + 1) for number in range(SEEDS)])
def test_random_services_and_changes_are_answered_as_by_kube_proxy(seed: int, tmp_path: Path) -> None:
    remove_abandoned()
    chance = random.Random(seed)
    with Sides(tmp_path / "proxy") as sides:
        for step, states in enumerate(generate_steps(seed)):
            sides.set(join(states))
            questions: list[Question] = [item for state in states for item in list_questions(state, chance)]
            found = sides.differences(questions)
            if found:
                case = shrink(sides, states, found)
                pytest.fail(f"seed {seed}, step {step}:\n" + "\n".join(found) + f"\n\nsmallest case:\n{case}")


def test_a_table_that_drops_some_connections_is_found(tmp_path: Path) -> None:
    """A known fault: each choice among endpoints has one slot too many, behind which is nobody."""
    remove_abandoned()
    seed, chance = 303, random.Random(303)
    with Sides(tmp_path / "proxy", spoil=add_empty_slot) as sides:
        states = next(generate_steps(seed))
        sides.set(join(states))
        found = sides.differences([item for state in states for item in list_questions(state, chance)])
    assert any("connections ours dropped" in line for line in found), found


def add_empty_slot(text: str) -> str:
    return re.sub(r"numgen random mod (\d+)", lambda found: f"numgen random mod {int(found[1]) + 1}", text)


@pytest.mark.parametrize(
    ("ours", "theirs", "differs"),
    [
        (0, 0, False),
        (60, 60, False),
        (3, 0, False),  # a busy machine
        (20, 0, True),  # one of three
        (0, 20, True),
        (12, 0, True),  # one of five
        (30, 24, False),
        (60, 30, True),
    ],
)
def test_the_bound_of_drops(ours: int, theirs: int, differs: bool) -> None:
    assert drops_more_often(ours, theirs) is differs


def test_affinity_ends_with_its_timeout_as_in_kube_proxy(tmp_path: Path) -> None:
    """Services of both families, with one and more frontends, and timeouts that end within the test and that do not."""
    remove_abandoned()
    objects = make_objects(random.Random(404))
    with Sides(tmp_path / "proxy") as sides:
        sides.set(objects)
        clients = list_clients(objects)
        ours, theirs = (outcomes(bed, clients) for bed in sides.beds)
    assert ours == theirs
    assert set(ours.values()) == {"stays", "ends"}, ours
