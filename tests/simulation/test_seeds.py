"""Seeds of the simulation: every invariant holds in each, the same seed is the same run, and known faults are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.runner import DEFAULT_SEEDS, Result, Run

ROOT = Path(__file__).parents[2]
LIMIT_S = 900
"""Of one command; a machine without other work takes a tenth of it."""


def run(*arguments: str) -> list[Result]:
    """As `make simulate` does, in a process of its own: the clocks of this one are not replaced."""
    command = [sys.executable, "-m", "tests.simulation", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    lines = [orjson.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    return sorted((Result(**line) for line in lines), key=lambda result: result.seed)


def assert_clean(results: list[Result]) -> None:
    lines = [
        f"{Run(result.seed, result.killed_at).command}\n    {invariant}: {detail}"
        for result in results
        for invariant, detail in result.violations
    ]
    assert not lines, "\n".join(lines)


def test_every_invariant_holds_in_every_seed() -> None:
    results = run("--seeds", str(DEFAULT_SEEDS))
    assert len(results) == DEFAULT_SEEDS
    assert_clean(results)
    assert sum(result.starts > 1 for result in results) > DEFAULT_SEEDS / 4, "hardly a provider was killed"


def test_a_provider_may_be_killed_at_any_step() -> None:
    results = run("--seed", "3", "--every", "41")
    assert len(results) > 50
    assert_clean(results)


@pytest.mark.parametrize("seed", [3, 11, 19])
def test_a_seed_is_the_same_run_each_time(seed: int) -> None:
    alone, again = run("--seed", str(seed)), run("--seed", str(seed))
    beside_others = run("--first", str(seed - 1), "--seeds", "3", "--jobs", "3")
    assert alone[0].digest == again[0].digest == beside_others[1].digest
    assert alone[0].steps == beside_others[1].steps


def test_seeds_differ() -> None:
    assert len({result.digest for result in run("--seeds", "4")}) == 4


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_known_fault_is_found(name: str) -> None:
    """The seed that found it last is tried first: another change of the provider may have moved what it does."""
    fault = FAULTS[name]
    last = run("--seed", str(fault.found_by), "--fault", name)
    results = last if breaks(last) else run("--seeds", str(DEFAULT_SEEDS), "--fault", name, "--until-found")
    assert breaks(results) & set(fault.breaks), breaks(results)


def breaks(results: list[Result]) -> set[str]:
    return {invariant for result in results for invariant, _ in result.violations}
