"""The API server is away for a minute: first it hangs, then it is dead."""

from __future__ import annotations

import signal
import time

import pytest

from tests.e2e.manifest import container, pod
from tests.e2e.nodeless import Namespace, container_ids, restarts, terminated
from tests.e2e.until import until

pytestmark = pytest.mark.real

HANGS_S = 30.0
DEAD_S = 30.0


def test_pods_go_on_while_the_api_server_is_away_and_their_statuses_catch_up(namespace: Namespace) -> None:
    nodeless = namespace.nodeless
    image = nodeless.image
    namespace.apply(
        pod("steady", container(image, "while true; do date +%s >> /tmp/beats; sleep 1; done")),
        pod("ending", container(image, "sleep 20; echo ended meanwhile; exit 4"), restartPolicy="Never"),
        pod(
            "restarting",
            container(
                image,
                "[ -e /data/x ] && exec sleep 3600; touch /data/x; sleep 15; exit 1",
                volumeMounts=[{"name": "data", "mountPath": "/data"}],
            ),
            volumes=[{"name": "data", "emptyDir": {}}],
        ),
    )
    before = namespace.wait_ready("steady", "ending", "restarting")[0]
    provider = nodeless.environment.provider.pid()

    take_api_server_away(namespace)

    ended = namespace.wait_phase("ending", "Failed")
    assert terminated(ended)["exitCode"] == 4
    again = namespace.wait_pod("restarting", "restarted once", lambda item: restarts(item) == 1)
    assert again["status"]["phase"] == "Running"
    nodeless.wait_node_ready()
    steady = namespace.wait_ready("steady")[0]
    assert (container_ids(steady), restarts(steady)) == (container_ids(before), 0)
    beats = [int(line) for line in namespace.execute("steady", "cat /tmp/beats").stdout.split()]
    assert max(later - earlier for earlier, later in zip(beats, beats[1:], strict=False)) <= 10
    assert beats[-1] - beats[0] >= HANGS_S + DEAD_S
    assert nodeless.environment.provider.pid() == provider, "the provider did not survive the outage"
    assert namespace.logs("ending") == "ended meanwhile\n"


def take_api_server_away(namespace: Namespace) -> None:
    plane = namespace.nodeless.plane
    plane.freeze("kube-apiserver")
    time.sleep(HANGS_S)
    process = plane.state.process("kube-apiserver")
    process.signal(signal.SIGKILL)
    until("the API server is dead", lambda: process.pid() is None, 10)
    time.sleep(DEAD_S)
    plane.start("kube-apiserver")


def test_new_pods_run_after_the_outage(namespace: Namespace) -> None:
    """Bound by hand: the scheduler itself takes up to half a minute to watch again."""
    namespace.apply(pod("after", container(namespace.nodeless.image), nodeName=namespace.nodeless.node))
    namespace.wait_ready("after")
    namespace.execute("after", "true")
