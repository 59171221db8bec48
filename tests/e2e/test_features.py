"""What the Node declares (status.declaredFeatures), through API server, scheduler and agent: a proof of each one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace, Nodeless, condition, container_ids, container_status, restarts
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

QUOTA = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d ' ' -f 1 /sys/fs/cgroup/cpu.max"  # v1, v2


def limited(cpu: str) -> Json:
    return {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"}}


def resize(namespace: Namespace, name: str, spec: Json) -> None:
    """`kubectl patch --subresource=resize`: refused by admission where the Node has not declared what it needs."""
    namespace.kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps({"spec": spec}))


def wait_resized(namespace: Namespace, name: str, holds: Callable[[Json], object]) -> Json:
    namespace.wait_event(name, "ResizeStarted")
    namespace.wait_event(name, "ResizeCompleted")
    return namespace.wait_pod(
        name,
        "resized",
        lambda item: (
            holds(item) and not condition(item, "PodResizeInProgress") and not condition(item, "PodResizePending")
        ),
    )


def resize_at_pod_level(namespace: Namespace) -> None:
    namespace.apply(pod("at-pod-level", container(namespace.nodeless.image), resources=limited("100m")))
    (before,) = namespace.wait_ready("at-pod-level")
    assert namespace.execute("at-pod-level", QUOTA).stdout == "10000\n"
    resize(namespace, "at-pod-level", {"resources": {"limits": {"cpu": "200m"}}})
    after = wait_resized(namespace, "at-pod-level", lambda item: item["status"]["resources"]["limits"]["cpu"] == "200m")
    assert after["status"]["resources"] == limited("200m")
    assert after["status"]["allocatedResources"] == {"cpu": "20m", "memory": "32Mi"}
    assert after["status"]["observedGeneration"] == after["metadata"]["generation"] == 2
    assert container_ids(after) == container_ids(before) and restarts(after) == 0
    assert namespace.execute("at-pod-level", QUOTA).stdout == "20000\n"


def resize_an_init_container(namespace: Namespace) -> None:
    def init(cpu: str) -> Json:
        script = f'until [ "$({QUOTA})" = 20000 ]; do sleep 0.2; done'
        return container(namespace.nodeless.image, script, "init", resources=limited(cpu))

    namespace.apply(pod("with-init", container(namespace.nodeless.image), initContainers=[init("100m")]))
    namespace.wait_pod(
        "with-init",
        "its init container runs",
        lambda item: "running" in (item["status"].get("initContainerStatuses") or [{}])[0].get("state", {}),
    )
    resize(namespace, "with-init", {"initContainers": [{"name": "init", "resources": limited("200m")}]})
    (after,) = namespace.wait_ready("with-init")  # it ends once it has what it was given
    (status,) = after["status"]["initContainerStatuses"]
    assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (0, 0)
    assert status["resources"] == limited("200m")
    namespace.wait_event("with-init", "ResizeCompleted")


def restart_all_containers(namespace: Namespace) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    image, mount = namespace.nodeless.image, {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    main = container(
        image,
        f'[ "$(wc -l < /data/inits)" = 1 ] && exit 42; {SLEEP}',
        restartPolicy="Never",
        restartPolicyRules=[rule],
        **mount,
    )
    namespace.apply(
        pod(
            "all-again",
            main,
            container(image, name="other"),
            initContainers=[container(image, "echo ran >> /data/inits", "init", **mount)],
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    again = namespace.wait_pod(
        "all-again",
        "all its containers run again",
        lambda item: (
            all("running" in container_status(item, name).get("state", {}) for name in ("main", "other"))
            and restarts(item) == 2
        ),
    )
    namespace.wait_event("all-again", "Scheduled")
    assert again["status"]["initContainerStatuses"][0]["restartCount"] == 1
    assert container_status(again, "other")["lastState"]["terminated"]["reason"] == "RestartingAllContainers"


PROOFS = {
    "InPlacePodLevelResourcesVerticalScaling": resize_at_pod_level,
    "InPlacePodVerticalScalingInitContainers": resize_an_init_container,
    "RestartAllContainersOnContainerExits": restart_all_containers,
}


def declared(nodeless: Nodeless, name: str) -> list[str] | None:
    found = nodeless.kubectl("get", "node", name, "-o", "json", check=False)
    return json.loads(found.stdout)["status"].get("declaredFeatures") if found.returncode == 0 else None


def test_every_node_declares_what_is_proved_here_and_nothing_else(nodeless: Nodeless) -> None:
    for name in nodeless.nodes:
        assert declared(nodeless, name) == sorted(PROOFS)


@pytest.mark.parametrize("feature", sorted(PROOFS))
def test_a_declared_feature_works(namespace: Namespace, feature: str) -> None:
    PROOFS[feature](namespace)


def test_what_others_change_of_the_declaration_is_put_right(nodeless: Nodeless) -> None:
    change = json.dumps({"status": {"declaredFeatures": None}})
    changed = nodeless.kubectl("patch", "node", nodeless.node, "--subresource=status", "-p", change, "-o", "json")
    assert "declaredFeatures" not in json.loads(changed.stdout)["status"]
    until("the Node declares its features again", lambda: declared(nodeless, nodeless.node) == sorted(PROOFS))


def test_the_declaration_outlives_a_restart_and_the_nodes_object(nodeless: Nodeless) -> None:
    nodeless.stop_provider()
    assert declared(nodeless, nodeless.node) == sorted(PROOFS)
    nodeless.kubectl("delete", "node", nodeless.node)
    nodeless.start_provider()
    nodeless.wait_node_ready()
    assert declared(nodeless, nodeless.node) == sorted(PROOFS)


def test_a_resize_that_no_instance_of_the_pod_can_hold_is_infeasible_and_leaves_it_alone(namespace: Namespace) -> None:
    namespace.apply(pod("too-large", container(namespace.nodeless.image, resources=limited("100m"))))
    namespace.wait_ready("too-large")
    wanted = {"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}}
    resize(namespace, "too-large", {"containers": [{"name": "main", "resources": wanted}]})
    event = namespace.wait_event("too-large", "ResizeInfeasible", "Node didn't have enough capacity: memory")
    assert event["type"] == "Warning"
    pending = namespace.wait_pod("too-large", "PodResizePending", lambda item: condition(item, "PodResizePending"))
    assert condition(pending, "PodResizePending")["reason"] == "Infeasible"
    assert container_status(pending)["resources"] == limited("100m")
    assert restarts(pending) == 0
