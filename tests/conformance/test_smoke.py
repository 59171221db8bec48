"""Specs of Kubernetes' own suite that fail when a mechanism breaks (smoke.txt), on a cluster of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.conformance import own_cluster
from tests.conformance.journal import read_journal
from tests.conformance.own_cluster import SMOKE
from tests.conformance.run import Plan, Run
from tests.conformance.selection import Selection, parse_name_list
from tests.conformance.suite import Programs

NAMES = parse_name_list(Path(__file__).with_name("smoke.txt").read_text())
PROCESSES = 4


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Up, and down at the end whatever happened; what a killed run has left goes first."""
    own_cluster.down(SMOKE)
    try:
        yield own_cluster.up(SMOKE)
    finally:
        own_cluster.down(SMOKE)


def test_every_smoke_spec_passes(plane: ControlPlane, tmp_path: Path) -> None:
    programs = Programs(build.ensure("e2e"), build.ensure("ginkgo"), plane.binaries["kubectl"])
    plan = Plan(Selection(names=NAMES), programs, plane.kubeconfig, SMOKE.registry, tmp_path, PROCESSES)
    run = Run(plan)
    run.execute()
    results = read_journal(run.suite.journal_file.read_text()).results
    not_passed = {
        name: results[name].message if name in results else "no result"
        for name in NAMES
        if name not in results or not results[name].passed
    }
    assert not not_passed
