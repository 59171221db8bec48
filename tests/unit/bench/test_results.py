"""What can be measured has been: each benchmark has its section in the results that are kept in the tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHMARKS
from tests.bench.ec2.__main__ import BENCHMARKS as EC2_BENCHMARKS
from tests.bench.report import ROOM


@pytest.mark.parametrize(("suffix", "names"), [("", list(BENCHMARKS)), ("-ec2", list(EC2_BENCHMARKS))])
def test_each_benchmark_has_a_section_with_figures(suffix: str, names: list[str]) -> None:
    text = (ROOM / f"RESULTS{suffix.upper()}.md").read_text()
    sections = dict(zip(*[iter(re.split(r"^## (\w+)$", text, flags=re.M)[1:])] * 2, strict=True))
    assert [name for name in names if "| figure" not in sections.get(name, "")] == []
    assert set(names) <= kept(ROOM / f"results{suffix}.jsonl")


def kept(path: Path) -> set[str]:
    """Sections of the file for machines."""
    return {name for line in path.read_text().splitlines() if (name := json.loads(line).get("section"))}
