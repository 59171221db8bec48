"""What the load of the autoscaler's demo is worth."""

from __future__ import annotations

import pytest

from tests.demo.load import cpu_seconds


def test_an_answers_cost_is_all_of_its_cpu_time() -> None:
    assert cpu_seconds("\n0m0.060s 0m0.010s\n1m0.000s 0m0.005s\n") == pytest.approx(60.075)


@pytest.mark.parametrize("text", ["", "done", "0m0.000s 0m0.000s\n"])
def test_a_load_that_costs_nothing_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="without its CPU time"):
        cpu_seconds(text)
