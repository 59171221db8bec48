"""The real kube-proxy as the judge: the same objects and changes into both, the same connections tried."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.integration.serviceproxy.bed import remove_abandoned
from tests.integration.serviceproxy.shrink import shrink
from tests.integration.serviceproxy.sides import Question, Sides, list_questions
from tests.service_history import generate_history

pytestmark = pytest.mark.real

SEEDS = (101, 202)
LANES, STEPS = 10, 10
"""200 small tables in all: in each step those of 10 histories are side by side, with addresses of their own."""


@pytest.mark.parametrize("seed", SEEDS)
def test_random_services_and_changes_are_answered_as_by_kube_proxy(seed: int, tmp_path: Path) -> None:
    remove_abandoned()
    chance = random.Random(seed)
    histories = [list(generate_history(seed * 1000 + lane, lane, STEPS)) for lane in range(LANES)]
    with Sides(tmp_path / "proxy") as sides:
        for step in range(STEPS):
            states = [history[step] for history in histories]
            sides.set(
                ({k: v for s, _ in states for k, v in s.items()}, {k: v for _, s in states for k, v in s.items()})
            )
            questions: list[Question] = [item for state in states for item in list_questions(state, chance)]
            found = sides.differences(questions)
            if found:
                case = shrink(sides, states, found)
                pytest.fail(f"seed {seed}, step {step}:\n" + "\n".join(found) + f"\n\nsmallest case:\n{case}")
