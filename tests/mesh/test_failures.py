"""An endpoint that always fails: what clients see, and what retries, a timeout and outlier detection change."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.until import until
from tests.mesh.world import CLIENT, Mesh
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real
URL = "http://api/hostname"
CLUSTER = "outbound|80||api.mesh.svc.cluster.local"


@pytest.fixture(scope="module")
def broken(mesh: Mesh) -> Iterator[Mesh]:
    """With a third endpoint of api that answers 503, and no retries."""
    with mesh.applied("broken"):
        mesh.wait_available("api-broken")
        yield mesh


def apply(mesh: Mesh, name: str) -> None:
    mesh.nodeless.kubectl("apply", "-f", str(mesh.istio.manifest(name)))


def endpoints(mesh: Mesh) -> dict[str, bool]:
    """Address -> whether outlier detection has ejected it, in the client's proxy."""
    words = ("proxy-config", "endpoints", f"{CLIENT}.mesh", "--cluster", CLUSTER, "-o", "json")
    found: list[Json] = json.loads(mesh.istio.istioctl(*words).stdout)
    return {
        host["address"]["socketAddress"]["address"]: bool(host["healthStatus"].get("failedOutlierCheck"))
        for cluster in found
        for host in cluster["hostStatuses"]
    }


def test_without_retries_the_failing_endpoint_is_seen(broken: Mesh) -> None:
    # A proxy answers on connections of its listener before for up to 45 s (its drain time), by the policy of then.
    until("200 and 503 alone", lambda: set(now := broken.statuses(URL, 60)) == {200, 503} and now[503] > 5)


def test_retries_go_to_another_endpoint(broken: Mesh) -> None:
    apply(broken, "resilience")
    try:
        until("every request is answered", lambda: broken.statuses(URL, 60) == {200: 60})
        assert broken.statuses(URL, 200) == {200: 200}
    finally:
        apply(broken, "broken")


def test_a_request_that_takes_too_long_is_given_up(broken: Mesh) -> None:
    slow = "http://api/shell?cmd=sleep%203"
    apply(broken, "resilience")
    try:
        given_up = broken.wait_get("the timeout is there", slow, lambda answer: answer.status == 504)
        assert given_up.body == "upstream request timeout"
    finally:
        apply(broken, "broken")


def test_outlier_detection_ejects_the_failing_endpoint_and_no_other(broken: Mesh) -> None:
    (pod,) = broken.pods("app=api,version=broken")
    with broken.applied("outlier"):
        until("nothing fails any more", lambda: broken.statuses(URL, 60) == {200: 60})
        found = endpoints(broken)
        assert len(found) == 3
        assert [address for address, ejected in found.items() if ejected] == [pod["status"]["podIP"]]
