"""README's list of what differs on purpose: each row is shown to be true by something, and nothing is shown twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.differential.known import KNOWN
from tests.differential.normalise import TEXT_RULES
from tests.differential.purpose import EVIDENCE, Evidence, evidence_of, rows

TESTS = Path(__file__).parents[2]
ROWS = rows((TESTS.parent / "README.md").read_text())


def test_readme_has_rows() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_evidence(row: str) -> None:
    assert len(evidence_of(row)) == 1, f"no known difference, test or rule shows: {row}"


def test_there_is_no_evidence_for_a_row_that_is_not_there() -> None:
    assert [key for key in EVIDENCE if not any(row.startswith(key) for row in ROWS)] == []


def test_each_known_difference_belongs_to_a_row() -> None:
    assert {name for found in EVIDENCE.values() for name in found.known} == {entry.name for entry in KNOWN}


@pytest.mark.parametrize("evidence", EVIDENCE.values(), ids=list(EVIDENCE))
def test_evidence_exists(evidence: Evidence) -> None:
    assert evidence.known or evidence.tests or evidence.rules
    for place in evidence.tests:
        path, _, name = place.partition("::")
        assert re.search(rf"def {name}\(", (TESTS / path).read_text()), f"there is no test {place}"
    for name, example in evidence.rules:
        (rule,) = [each for each in TEXT_RULES if each.name == name]
        assert rule.pattern.sub(rule.replacement, example) != example


def test_a_row_without_evidence_is_found() -> None:
    table = "## Different from a kubelet on purpose\n\n| here | a kubelet |\n|---|---|\n| new | old |\n\n## Next\n| x |"
    assert rows(table) == ["new"] and evidence_of("new") == []
