"""kill -9 of the provider while it launches and deletes: every pod has one instance afterwards, and no instance is
nobody's; what was stopping goes on stopping."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace, restarts, terminated
from tests.e2e.until import until

pytestmark = pytest.mark.real

PODS = 20
LAUNCHED = 5
"""So many instances live when the provider is killed; more are being launched."""
SLOW_END = 'trap "echo stopping; sleep 30; exit 7" TERM; while true; do sleep 1 & wait; done'
FINALIZER = "vk-provider.test/keeps-the-final-status"
ONCE = f'echo "$HOSTNAME started" >> /data/starts; {SLEEP}'


@pytest.fixture(scope="module")
def leaving(namespace: Namespace) -> Iterator[str]:
    """A pod that takes its time to stop, and has begun to."""
    item = pod("leaving", container(namespace.nodeless.image, SLOW_END), terminationGracePeriodSeconds=120)
    item["metadata"]["finalizers"] = [FINALIZER]
    namespace.apply(item)
    namespace.wait_ready("leaving")
    namespace.kubectl("delete", "pod", "leaving", "--wait=false")
    until("its container was told to stop", lambda: "stopping" in namespace.logs("leaving"))
    try:
        yield "leaving"
    finally:
        namespace.kubectl("patch", "pod", "leaving", "-p", '{"metadata": {"finalizers": null}}', check=False)


def test_a_crash_in_the_middle_of_20_launches_gives_each_pod_one_instance(namespace: Namespace, leaving: str) -> None:
    nodeless = namespace.nodeless
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    names = [f"crash-{number}" for number in range(PODS)]
    earlier = {item.record.instance_id for item in nodeless.instances.live()}
    namespace.apply(
        *(
            pod(
                name,
                container(nodeless.image, ONCE, resources={"requests": {"cpu": "50m", "memory": "32Mi"}}, **mount),
                volumes=[{"name": "data", "emptyDir": {}}],
                nodeName=nodeless.node,
            )
            for name in names
        )
    )

    def new_instances() -> int:
        return len([item for item in nodeless.instances.live() if item.record.instance_id not in earlier])

    until(f"{LAUNCHED} instances live", lambda: new_instances() >= LAUNCHED, every_s=0.01)
    nodeless.kill_provider()
    in_flight = new_instances()
    assert in_flight < PODS, "the crash came too late to be in the middle"
    # What pod GC and others do: a terminal phase, although the containers still stop.
    namespace.kubectl("patch", "pod", leaving, "--subresource=status", "-p", '{"status": {"phase": "Failed"}}')
    nodeless.start_provider()
    pods = namespace.wait_ready(*names)
    uids = sorted(item["metadata"]["uid"] for item in pods)

    def one_each() -> bool:
        live = [item for item in nodeless.instances.live() if item.record.instance_id not in earlier]
        return sorted(item.pod_uid for item in live) == uids

    until("each pod has one instance and none is left over", one_each)
    assert [restarts(item) for item in pods] == [0] * PODS
    for name in (names[0], names[-1]):
        assert namespace.execute(name, "cat /data/starts").stdout.splitlines() == [f"{name} started"]
    namespace.kubectl("delete", "pods", *names, timeout_s=180)
    until("all their instances are gone", lambda: new_instances() == 0)


def test_a_pod_that_was_stopping_keeps_its_grace_period_over_the_crash(namespace: Namespace, leaving: str) -> None:
    ended = namespace.wait_pod(leaving, "its container ended", terminated)
    assert terminated(ended)["exitCode"] == 7, "it was killed before its time"
    assert ended["status"]["phase"] == "Failed"
    namespace.wait_no_instance(ended["metadata"]["uid"])
