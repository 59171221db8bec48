"""Two runs of one tool share a cluster, and would take it from each other: the second one is refused."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench.ec2 import __main__ as bench_ec2
from tests.cluster.cache import only_one
from tests.conformance import __main__ as conformance
from tests.differential import __main__ as differential

RUNS = {
    "conformance": (conformance.main, ["--own-cluster"], "conf-cluster.lock"),
    "conformance-down": (conformance.main, ["--down"], "conf-cluster.lock"),
    "differential": (differential.main, ["--pairs", "1"], "differential.lock"),
    "differential-down": (differential.main, ["--down"], "differential.lock"),
    "bench": (bench.main, ["--only", "one_pod"], "bench.lock"),
    "bench-ec2": (bench_ec2.main, ["--only", "warm"], "bench-ec2.lock"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_second_run_is_refused_with_the_pid_of_the_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, arguments, lock = RUNS[name]
    cache = tmp_path / "vk-provider"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = dataclasses.replace(conformance.CONFORMANCE, root=cache / "conf-cluster")
    monkeypatch.setattr(conformance, "CONFORMANCE", own)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with only_one(cache / lock, "run"):
            assert run(arguments) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    said = "".join(capsys.readouterr())
    assert "another `make " in said and f"kill {os.getpid()}" in said
    assert [path.name for path in cache.iterdir()] == [lock]
