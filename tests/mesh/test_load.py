"""Under load: a roll loses nothing, an instance that dies takes little with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.until import until
from tests.mesh.world import CLIENT, Mesh

pytestmark = pytest.mark.real
LOOP = (
    "until [ -e /tmp/enough ]; do"
    " curl -s -o /dev/null --max-time 3 -w '%{http_code}\\n' http://web/hostname; sleep 0.02; done; rm /tmp/enough"
)


@contextmanager
def load(mesh: Mesh, seen: list[int]) -> Iterator[None]:
    """Requests one after the other while the block runs; their statuses (0: none within 3 s) are in `seen` then."""
    with mesh.inside.background("exec", CLIENT, "--", "sh", "-c", LOOP) as running:
        try:
            yield
        finally:
            mesh.inside.execute(CLIENT, "touch /tmp/enough")
            output, _ = running.communicate(timeout=30)
            seen.extend(map(int, output.split()))


def test_rolling_a_deployment_under_load_fails_no_request(mesh: Mesh) -> None:
    before = {pod["metadata"]["uid"] for pod in mesh.pods("app=web")}
    seen: list[int] = []
    with load(mesh, seen):
        mesh.inside.kubectl("rollout", "restart", "deployment/web-v1", "deployment/web-v2")
        for name in ("web-v1", "web-v2"):
            mesh.wait_available(name)
        until("only new pods", lambda: not before & {pod["metadata"]["uid"] for pod in mesh.pods("app=web")})
    assert len(seen) > 100
    assert Counter(seen) == {200: len(seen)}


def test_when_an_instance_dies_the_mesh_goes_on_with_the_others(mesh: Mesh) -> None:
    (victim, *_) = mesh.pods("app=web,version=v1")
    seen: list[int] = []
    with load(mesh, seen):
        until("load is there", lambda: mesh.statuses("http://web/hostname", 20) == {200: 20})
        mesh.nodeless.instances.of_pod(victim["metadata"]["uid"]).kill()
        until(
            "the pod is no endpoint any more",
            lambda: victim["status"]["podIP"] not in mesh.inside.ready_endpoints("web"),
        )
        until("the others answer all", lambda: mesh.statuses("http://web/hostname", 100) == {200: 100})
        mesh.wait_available("web-v1")
    failed = [status for status in seen if status != 200]
    print(f"{len(failed)} of {len(seen)} requests failed: {Counter(failed)}")
    assert len(failed) <= 5 and seen[-20:] == [200] * 20
