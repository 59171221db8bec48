"""The provider is killed at every step of a launch, of an end, of what pools do, of what the cloud or somebody else
does to instances, and of how images are prepared: two sweeps of the next one later no instance runs that no pod owns,
and each pod runs on exactly one."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
import pytest

from tests.simulation.crashes import SCENARIOS
from tests.simulation.invariants import OUTLIVED
from tests.simulation.test_seeds import LIMIT_S, ROOT

BY_HAND = ("store",)
"""`make simulate CRASHES=all` has it; tests/integration/aws/test_image_stores.py has the same at each call of moto."""
SEEDS = (1,)
"""With listings that lag by 15 s."""


def run(*arguments: str) -> list[dict[str, object]]:
    """In a process of its own: the clocks of this one are not replaced."""
    command = [sys.executable, "-m", "tests.simulation", "--json", "--crashes", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    return [orjson.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in BY_HAND])
def test_a_crash_at_every_step_leaves_no_instance_that_no_pod_owns(name: str, seed: int) -> None:
    crashes = run(name, "--first", str(seed))
    failed = [
        f"--crashes {name} --first {seed} --killed-at {each['killed_at']}: {each['violations']}" for each in crashes
    ]
    assert not any(each["violations"] for each in crashes), "\n".join(
        line for line, each in zip(failed, crashes, strict=True) if each["violations"]
    )
    assert len(crashes) >= 20 and all(each["starts"] == 2 for each in crashes[1:])


def test_without_the_sweep_some_crash_leaves_an_instance() -> None:
    crashes = run("pool-end", "--fault", "no-sweep")
    assert OUTLIVED in {invariant for each in crashes for invariant, _ in each["violations"]}
