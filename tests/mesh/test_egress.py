"""Out of the mesh, to a server that is no pod."""

from __future__ import annotations

import pytest

from tests.mesh.world import Mesh

pytestmark = pytest.mark.real


def test_only_a_registered_server_is_reached_from_a_mesh_that_is_closed(mesh: Mesh) -> None:
    url = f"http://{mesh.istio.registry}/v2/"
    assert mesh.get(url).status == 200
    with mesh.applied("egress"):
        mesh.wait_get("what is not registered is refused", url, lambda answer: answer.exit_code != 0)
        assert mesh.get("http://web/hostname").status == 200
        with mesh.applied("registered"):
            reached = mesh.wait_get("what is registered is reached", url, lambda answer: answer.status == 200)
            assert "server: envoy" in reached.headers
    mesh.wait_get("the mesh is open again", url, lambda answer: answer.status == 200)
