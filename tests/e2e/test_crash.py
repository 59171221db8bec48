"""kill -9 of the provider while it launches: every pod has one instance afterwards, and no instance is nobody's."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace, restarts
from tests.e2e.until import until

pytestmark = pytest.mark.real

PODS = 20
LAUNCHED = 5
"""So many instances live when the provider is killed; more are being launched."""
ONCE = f'echo "$HOSTNAME started" >> /data/starts; {SLEEP}'


def test_a_crash_in_the_middle_of_20_launches_gives_each_pod_one_instance(namespace: Namespace) -> None:
    nodeless = namespace.nodeless
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    names = [f"crash-{number}" for number in range(PODS)]
    earlier = {item.record.instance_id for item in nodeless.instances.live()}
    namespace.apply(*(
        pod(name, container(nodeless.image, ONCE, resources={"requests": {"cpu": "50m", "memory": "32Mi"}}, **mount),
            volumes=[{"name": "data", "emptyDir": {}}], nodeName=nodeless.node) for name in names
    ))  # fmt: skip

    def new_instances() -> int:
        return len([item for item in nodeless.instances.live() if item.record.instance_id not in earlier])

    until(f"{LAUNCHED} instances live", lambda: new_instances() >= LAUNCHED, every_s=0.01)
    nodeless.kill_provider()
    in_flight = new_instances()
    assert in_flight < PODS, "the crash came too late to be in the middle"
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
