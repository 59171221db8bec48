"""Patterns with wildcards."""

from __future__ import annotations

import random
import time
from fnmatch import fnmatchcase

import pytest

from vk_provider.podmodel.glob import MAX_PATTERN, matches_glob


def test_a_pattern_means_what_it_means_to_fnmatch() -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        text = "".join(chance.choices("abc-", k=chance.randint(0, 6)))
        parts = ("a", "b", "c", "*", "?", "[ab]", "[!ab]", "[a-c]", "[", "]", "-", "[]a]", "[!]a]")
        pattern = "".join(chance.choices(parts, k=chance.randint(0, 5)))
        assert matches_glob(text, pattern) == fnmatchcase(text, pattern), (text, pattern)


@pytest.mark.parametrize(("text", "matches"), [("xb", True), ("ab", False)])
def test_a_class_is_negated_as_go_writes_it_too(text: str, matches: bool) -> None:
    assert matches_glob(text, "[^a]b") is matches


@pytest.mark.parametrize("pattern", ["*a" * 120 + "b", "[" * MAX_PATTERN, "*?" * 128, "*" * 1_000_000])
def test_a_hostile_pattern_costs_little(pattern: str) -> None:
    began = time.process_time()
    assert not matches_glob("a" * 63 + "c", pattern)
    assert time.process_time() - began < 0.1
