"""The API's words as the judge: random policies and changes applied by the real nft, and real connections tried."""

from __future__ import annotations

import pytest

from tests.integration.netpolicy.ours import QUESTIONS, OurPolicies, shrink
from tests.integration.serviceproxy.bed import Bed
from tests.policy_words import allows
from tests.policy_worlds import SUBJECT, generate_history

pytestmark = pytest.mark.real

SEEDS = range(301, 313)
STEPS = 6
"""72 worlds: in each history the first by a whole table, the others by deltas."""


def test_random_policies_let_through_what_the_api_says(bed: Bed) -> None:
    allowed = asked = 0
    for seed in SEEDS:
        ours = OurPolicies(bed)
        for step, world in enumerate(generate_history(seed, STEPS)):
            ours.set(world)
            found = ours.differences(world)
            assert ours.table and ours.revision() == ours.table.revision
            if found:
                case = shrink(bed, world, [question for question in QUESTIONS if str(question) in "\n".join(found)])
                pytest.fail(f"seed {seed}, step {step}:\n" + "\n".join(found) + f"\n\nsmallest case:\n{case}")
            allowed += sum(allows(world, SUBJECT, *question) for question in QUESTIONS)
            asked += len(QUESTIONS)
    assert 0.25 < allowed / asked < 0.75  # both answers were asked for
