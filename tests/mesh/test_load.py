"""Under load: a roll loses nothing, an instance that dies takes little with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.until import until
from tests.mesh.world import CLIENT, Mesh

pytestmark = pytest.mark.real
SENDERS = 4
LOOP = (
    f"for sender in $(seq {SENDERS}); do"
    " until [ -e /tmp/enough ]; do"
    " curl -s -o /dev/null --max-time 3 -w '%{http_code}\\n' http://web/hostname; sleep 0.05; done &"
    " done; wait; rm /tmp/enough"
)


@contextmanager
def load(mesh: Mesh, seen: list[int]) -> Iterator[None]:
    """Requests of SENDERS at once while the block runs; their statuses (0: none within 3 s) are in `seen` then."""
    with mesh.inside.background("exec", CLIENT, "--", "sh", "-c", LOOP) as running:
        try:
            yield
        finally:
            mesh.inside.execute(CLIENT, "touch /tmp/enough")
            output, _ = running.communicate(timeout=30)
            seen.extend(map(int, output.split()))


def failures(seen: list[int]) -> str:
    failed = Counter(status for status in seen if status != 200)
    return f"{failed.total()} of {len(seen)} requests {dict(failed) or ''}".rstrip()


def test_rolling_a_deployment_under_load_fails_no_request(mesh: Mesh, figures: dict[str, str]) -> None:
    before = {pod["metadata"]["uid"] for pod in mesh.pods("app=web")}
    seen: list[int] = []
    with load(mesh, seen):
        mesh.inside.kubectl("rollout", "restart", "deployment/web-v1", "deployment/web-v2")
        for name in ("web-v1", "web-v2"):
            mesh.wait_available(name)
        until("only new pods", lambda: not before & {pod["metadata"]["uid"] for pod in mesh.pods("app=web")})
    figures["failed while two Deployments roll"] = failures(seen)
    assert len(seen) > 100
    assert Counter(seen) == {200: len(seen)}


def test_when_an_instance_dies_the_mesh_goes_on_with_the_others(mesh: Mesh, figures: dict[str, str]) -> None:
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
    figures["failed when an instance of three is killed"] = failures(seen)
    failed = [status for status in seen if status != 200]
    # What is on its way to it, and what each sender sends before the endpoint is seen to be gone.
    assert len(failed) <= 2 * SENDERS and seen[-20:] == [200] * 20
