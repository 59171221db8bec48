"""Istio's own tools find nothing wrong."""

from __future__ import annotations

import pytest

from tests.e2e.until import until
from tests.mesh.world import Mesh

pytestmark = pytest.mark.real


def test_every_proxy_has_taken_what_istiod_sent(mesh: Mesh) -> None:
    pods = {f"{pod['metadata']['name']}.mesh" for pod in mesh.pods("security.istio.io/tlsMode=istio")}
    assert len(pods) >= 6

    def rows() -> dict[str, str]:
        lines = mesh.istio.istioctl("proxy-status", "--verbosity", "1").stdout.splitlines()[1:]
        return {line.split()[0]: line for line in lines}

    found = until("istiod knows each proxy and no other", lambda: now if set(now := rows()) == pods else None)
    for row in found.values():
        assert "SYNCED" in row and "STALE" not in row and "ERROR" not in row.upper(), row


def test_istioctl_analyze_has_nothing_to_say_about_all_that_the_demo_configures(mesh: Mesh) -> None:
    with mesh.applied("strict", "split", "gateway", "authorization", "resilience", "outlier", "egress", "registered"):
        mesh.wait_gateway()
        said = mesh.istio.istioctl("analyze", "--namespace", "mesh")
    assert "No validation issues found" in said.stdout + said.stderr
