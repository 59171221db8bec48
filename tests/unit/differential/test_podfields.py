"""The grammar draws the whole spec of a pod, or says why it does not."""

from functools import cache

from tests.differential.grammar.generate import build
from tests.differential.grammar.registry import ACTIONS, FEATURES
from tests.differential.podfields import LEFT_OUT, TYPES, drawn, reachable

DRAWS = 40
"""Of each feature alone: more than any has variants."""


@cache
def _all_drawn() -> frozenset[str]:
    cases = (build(f"{number}", f"{number}", (part,)) for part in (*FEATURES, *ACTIONS) for number in range(DRAWS))
    return frozenset().union(*(drawn(case) for case in cases))


def test_every_field_of_a_pods_spec_is_drawn_or_left_out_for_a_reason() -> None:
    found = _all_drawn()
    assert sorted(reachable() - found - LEFT_OUT.keys()) == []
    assert sorted(found & LEFT_OUT.keys()) == [], "what is drawn needs no reason to be left out"


def test_what_is_left_out_exists_and_has_a_reason() -> None:
    fields = {f"{kind}.{name}" for kind, names in TYPES.items() for name in names}
    assert sorted(LEFT_OUT.keys() - fields) == []
    assert all(LEFT_OUT.values())


def test_a_case_has_no_field_that_the_api_does_not_know() -> None:
    fields = {f"{kind}.{name}" for kind, names in TYPES.items() for name in names}
    assert sorted(_all_drawn() - fields) == []
