"""A Gateway of the Gateway API, whose Deployment and Service istiod makes."""

from __future__ import annotations

import pytest

from tests.mesh.test_traffic import LEAST, MOST, REQUESTS
from tests.mesh.world import OUTSIDER, Mesh

pytestmark = pytest.mark.real
URL, HOST = "http://front-istio.mesh/hostname", ("-H", "Host: web.example.com")


def test_istiod_deploys_a_gateway_and_its_route_is_served_to_who_is_outside(
    mesh: Mesh, figures: dict[str, str]
) -> None:
    with mesh.applied("gateway"):
        mesh.wait_gateway()
        mesh.wait_get("the route is there", URL, lambda answer: answer.status == 200, *HOST, source=OUTSIDER)
        found = mesh.versions(URL, REQUESTS, *HOST, source=OUTSIDER)
        figures["HTTPRoute 90/10"] = f"{found['web-v1']} to {found['web-v2']} of {REQUESTS}, through the Gateway"
        assert set(found) == {"web-v1", "web-v2"} and LEAST <= found["web-v2"] <= MOST
        assert mesh.get(URL, source=OUTSIDER).status == 404, "a host without a route"
        (gateway,) = mesh.pods("gateway.networking.k8s.io/gateway-name=front")
        instance = mesh.nodeless.instances.of_pod(gateway["metadata"]["uid"])
        assert instance.processes("envoy"), "the gateway has an instance of its own"
