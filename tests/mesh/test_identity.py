"""Mutual TLS: identities of SPIFFE form on both ends, who has none is refused where it is asked for."""

from __future__ import annotations

import pytest

from tests.demo.environment import MESH_NODE, NODE
from tests.mesh.world import CLIENT, OUTSIDER, Mesh, spiffe_id

pytestmark = pytest.mark.real
DOMAIN = "spiffe://cluster.local/ns/mesh/sa"


def test_each_proxy_has_a_certificate_of_its_service_account_from_istiods_root(mesh: Mesh) -> None:
    root = mesh.root()
    for account, pods in ((CLIENT, [CLIENT]), ("web", [pod["metadata"]["name"] for pod in mesh.pods("app=web")])):
        for pod in pods:
            certificate = mesh.certificate(pod)
            assert spiffe_id(certificate) == [f"{DOMAIN}/{account}"]
            certificate.verify_directly_issued_by(root)


def test_the_server_is_told_the_identities_of_both_ends(mesh: Mesh) -> None:
    answer = mesh.get("http://web/header?key=X-Forwarded-Client-Cert")
    assert f"By={DOMAIN}/web;" in answer.body and answer.body.endswith(f"URI={DOMAIN}/client")


def test_plaintext_from_outside_is_let_in_while_permissive_and_refused_while_strict(mesh: Mesh) -> None:
    assert mesh.outside.pod(OUTSIDER)["spec"]["nodeName"] == MESH_NODE
    pods = mesh.pods("app=web")
    assert any(pod["spec"]["nodeName"] != MESH_NODE for pod in pods)
    for pod in pods:
        assert mesh.get(f"http://{pod['status']['podIP']}:8080/hostname", source=OUTSIDER).status == 200
    with mesh.applied("strict"):
        for pod in pods:
            url = f"http://{pod['status']['podIP']}:8080/hostname"
            refused = mesh.wait_get("refused", url, lambda answer: answer.exit_code != 0, source=OUTSIDER)
            assert refused.status == 0
        assert mesh.get("http://web.mesh/hostname", source=OUTSIDER).exit_code != 0
        assert mesh.statuses("http://web/hostname", 50) == {200: 50}


def test_the_mesh_reaches_a_pod_outside_of_it_on_another_nodes_instance(mesh: Mesh) -> None:
    assert (
        mesh.inside.pod(CLIENT)["spec"]["nodeName"] == NODE and mesh.outside.pod(OUTSIDER)["spec"]["nodeName"] != NODE
    )
    answer = mesh.get("http://outsider.plain/hostname")
    assert (answer.status, answer.body) == (200, OUTSIDER)
