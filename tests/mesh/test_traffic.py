"""Weights and permissions."""

from __future__ import annotations

import pytest

from tests.e2e.until import until
from tests.mesh.world import Mesh

pytestmark = pytest.mark.real
REQUESTS, LEAST, MOST = 1000, 53, 147
"""Of 1,000 requests at 10 %: 100 plus or minus five standard deviations (9.5 each)."""


def test_one_request_in_ten_goes_to_the_new_version(mesh: Mesh, figures: dict[str, str]) -> None:
    with mesh.applied("split"):
        # Without the split, v2 has a third of the endpoints.
        until("the weights are there", lambda: mesh.versions("http://web/hostname", 100)["web-v2"] < 25)
        found = mesh.versions("http://web/hostname", REQUESTS)
    assert set(found) == {"web-v1", "web-v2"} and found.total() == REQUESTS
    figures["VirtualService 90/10"] = f"{found['web-v1']} to {found['web-v2']} of {REQUESTS}"
    assert LEAST <= found["web-v2"] <= MOST


def test_only_who_is_allowed_may_call(mesh: Mesh) -> None:
    through_web = "http://web/dial?host=api&port=80&request=hostname&protocol=http"
    assert mesh.get("http://api/hostname").status == 200
    with mesh.applied("authorization"):
        denied = mesh.wait_get("the client is denied", "http://api/hostname", lambda answer: answer.status == 403)
        assert denied.body == "RBAC: access denied"
        allowed = mesh.get(through_web)
        assert allowed.status == 200 and '"responses":["api-' in allowed.body
    until("the client may call every endpoint again", lambda: mesh.statuses("http://api/hostname", 30) == {200: 30})
