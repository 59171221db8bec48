"""Istio's own tools find nothing wrong."""

from __future__ import annotations

import pytest

from tests.cluster.istio.installation import NAMESPACE
from tests.cluster.istio.module import module_directory
from tests.cluster.targets import ISTIO, ISTIO_RELEASE
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


def test_istioctl_analyze_has_nothing_to_say(mesh: Mesh) -> None:
    said = mesh.istio.istioctl("analyze", "--namespace", "mesh")
    assert "No validation issues found" in said.stdout + said.stderr


def test_istiod_runs_on_a_nodeless_instance_with_two_switches_and_nothing_else_set(mesh: Mesh) -> None:
    pods = mesh.nodeless.get("pods", namespace=NAMESPACE)["items"]
    (istiod,) = [pod for pod in pods if pod["metadata"]["labels"].get("app") == "istiod"]
    assert istiod["spec"]["nodeName"] in mesh.nodeless.nodes
    assert mesh.nodeless.instances.of_pod(istiod["metadata"]["uid"]).processes("pilot-discovery")
    environment = {item["name"]: item.get("value") for item in istiod["spec"]["containers"][0]["env"]}
    assert environment["PILOT_ENABLE_METADATA_EXCHANGE"] == environment["PILOT_ENABLE_ALPN_FILTER"] == "false"
    assert environment["PILOT_CERT_PROVIDER"] == "istiod"


def test_the_release_that_is_stamped_is_the_modules(mesh: Mesh) -> None:
    assert (module_directory(ISTIO) / "VERSION").read_text().strip() == ISTIO_RELEASE
    assert ISTIO_RELEASE in mesh.istio.istioctl("version", "--remote=false").stdout
