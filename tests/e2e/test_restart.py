"""The provider stops and starts: what runs goes on, Services keep their endpoints, what changed is told later."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import container, deployment, pod, service
from tests.e2e.nodeless import Namespace, condition, container_ids, is_ready, restarts
from tests.e2e.until import until

pytestmark = pytest.mark.real

TIDY = 'echo "$(date +%s) started" >> /data/starts; trap "exit 0" TERM; while true; do sleep 1 & wait; done'


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    namespace.apply(
        deployment("web", 3, container(image, TIDY, **mount), volumes=[{"name": "data", "emptyDir": {}}]),
        service("web", 8080),
        pod(
            "brief",
            container(image, "while [ ! -e /tmp/go ]; do sleep 0.2; done; echo bye; exit 5"),
            restartPolicy="Never",
        ),
        pod("leaving", container(image)),
    )
    namespace.wait_deployed("web", 3)
    namespace.wait_ready("brief", "leaving")
    return namespace


def test_a_restart_adopts_every_pod_and_leaves_services_their_endpoints(world: Namespace) -> None:
    until("the Service has its endpoints", lambda: len(world.ready_endpoints("web")) == 3)
    before = {item["metadata"]["uid"]: item for item in world.wait_deployed("web", 3)}
    endpoints = world.ready_endpoints("web")
    instances = {item.record.instance_id for item in world.nodeless.instances.live()}
    world.execute("brief", "(sleep 1; touch /tmp/go) > /dev/null 2>&1 &")
    world.nodeless.stop_provider()
    assert instances <= {item.record.instance_id for item in world.nodeless.instances.live()}
    assert world.ready_endpoints("web") == endpoints
    world.kubectl("delete", "pod", "leaving", "--wait=false")
    world.nodeless.start_provider()
    after = {item["metadata"]["uid"]: item for item in world.wait_deployed("web", 3)}
    assert after.keys() == before.keys()
    for uid, item in after.items():
        assert container_ids(item) == container_ids(before[uid])
        assert restarts(item) == 0
        assert condition(item, "Ready")["lastTransitionTime"] == condition(before[uid], "Ready")["lastTransitionTime"]
        assert world.execute(item["metadata"]["name"], "wc -l < /data/starts").stdout.strip() == "1"
    assert world.ready_endpoints("web") == endpoints


def test_what_ended_or_was_deleted_meanwhile_catches_up(world: Namespace) -> None:
    ended = world.wait_phase("brief", "Failed")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    assert world.logs("brief") == "bye\n"
    until("the deleted pod is gone", lambda: world.kubectl("get", "pod", "leaving", check=False).returncode != 0)


def test_archived_logs_are_there_after_a_restart(world: Namespace) -> None:
    uid = world.pod("brief")["metadata"]["uid"]
    world.wait_no_instance(uid)
    world.nodeless.stop_provider()
    world.nodeless.start_provider()
    assert world.logs("brief") == "bye\n"
    assert all(is_ready(item) and restarts(item) == 0 for item in world.wait_deployed("web", 3))


def test_pods_that_were_bound_while_the_provider_was_dead_are_admitted_by_the_labels_of_the_node(
    world: Namespace,
) -> None:
    """The Node object is read a moment after the pods are."""
    names = [f"waiting-{number}" for number in range(3)]
    world.nodeless.kill_provider()
    selector = {"nodeSelector": {"type": "virtual-kubelet"}}
    world.apply(*(pod(name, container(world.nodeless.image), **selector) for name in names))
    for name in names:
        world.wait_pod(name, "bound", lambda item: item["spec"].get("nodeName"))
    world.nodeless.start_provider()
    world.wait_ready(*names)
    assert not [event for name in names for event in world.events(name) if event["reason"] == "NodeAffinity"]
