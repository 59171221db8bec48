"""Pods that cannot run, or not yet: the kubelet's own reason stands on the pod, and what can be mended starts then."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import TOLERATIONS, config_map, container, pod, secret
from tests.e2e.nodeless import Namespace, waiting_reason

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    bind = {"nodeName": namespace.nodeless.node}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    missing = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}
    namespace.apply(
        pod("huge", container(image, resources={"requests": {"cpu": "900"}}), **bind),
        pod("beyond", container(image, resources={"requests": {"cpu": "2000"}}), **bind),
        pod("unknown-image", container(f"{namespace.nodeless.environment.registry}/nobody/has-this:1")),
        pod("bad-name", container("Not/A Name")),
        pod("no-secret", container(image, env=[missing])),
        pod("no-config", container(image, **mount), volumes=[{"name": "data", "configMap": {"name": "late"}}]),
        pod(
            "claim",
            container(image, **mount),
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}],
            **bind,
        ),
        pod(
            "nfs",
            container(image, **mount),
            volumes=[{"name": "data", "nfs": {"server": "192.0.2.1", "path": "/"}}],
            **bind,
        ),
        pod("bad-user", container(image, securityContext={"runAsNonRoot": True, "runAsUser": 0})),
        pod("no-program", container(image, command=["/no/such/program"]), restartPolicy="Never"),
    )
    return namespace


def test_a_pod_that_no_instance_type_can_hold_fails_and_says_what_is_largest(world: Namespace) -> None:
    failed = world.wait_phase("huge", "Failed")
    assert failed["status"]["reason"]
    assert "cpu" in failed["status"]["message"]
    world.wait_event("huge", failed["status"]["reason"])
    assert not [item for item in world.nodeless.instances.live() if item.pod_uid == failed["metadata"]["uid"]]


def test_a_pod_above_the_nodes_capacity_is_refused_as_a_kubelet_does_it(world: Namespace) -> None:
    failed = world.wait_phase("beyond", "Failed")
    assert failed["status"]["reason"] == "OutOfcpu"
    assert "Node didn't have enough resource: cpu" in failed["status"]["message"]


def test_an_image_that_does_not_exist_is_pulled_again_with_a_back_off(world: Namespace) -> None:
    world.wait_waiting("unknown-image", "ErrImagePull", "ImagePullBackOff")
    world.wait_event("unknown-image", "Pulling")
    world.wait_event("unknown-image", "Failed", "Failed to pull image")
    world.wait_waiting("unknown-image", "ImagePullBackOff")
    world.wait_event("unknown-image", "BackOff", "Back-off pulling image")
    assert world.pod("unknown-image")["status"]["phase"] == "Pending"


def test_an_invalid_image_name_is_told(world: Namespace) -> None:
    world.wait_waiting("bad-name", "InvalidImageName")
    world.wait_event("bad-name", "InspectFailed")


def test_a_missing_secret_holds_the_container_until_it_is_there(world: Namespace) -> None:
    held = world.wait_waiting("no-secret", "CreateContainerConfigError")
    state = held["status"]["containerStatuses"][0]["state"]["waiting"]
    assert state["message"] == 'secret "late" not found'
    world.wait_event("no-secret", "Failed", 'secret "late" not found')
    world.apply(secret("late", token="now"))
    world.wait_ready("no-secret")
    assert world.execute("no-secret", "echo $TOKEN").stdout == "now\n"


def test_a_missing_config_map_volume_holds_the_pod_until_it_is_there(world: Namespace) -> None:
    world.wait_event("no-config", "FailedMount", 'configmap "late" not found')
    assert waiting_reason(world.pod("no-config")) == "ContainerCreating"
    world.apply(config_map("late", key="value"))
    world.wait_ready("no-config")
    assert world.execute("no-config", "cat /data/key").stdout == "value"


@pytest.mark.parametrize(("name", "field"), [("claim", "persistentVolumeClaim"), ("nfs", "nfs")])
def test_a_volume_that_is_not_supported_is_refused_and_named(world: Namespace, name: str, field: str) -> None:
    failed = world.wait_phase(name, "Failed")
    assert failed["status"]["reason"] == "PodFeatureUnsupported"
    assert f"spec.volumes[0].{field} is not supported" in failed["status"]["message"]
    world.wait_event(name, "PodFeatureUnsupported", field)


def test_root_is_refused_to_a_container_that_must_not_be_root(world: Namespace) -> None:
    world.wait_waiting("bad-user", "CreateContainerConfigError")
    world.wait_event("bad-user", "Failed", "container's runAsUser breaks non-root policy")


def test_a_program_that_cannot_be_started_ends_the_pod_with_the_runtimes_words(world: Namespace) -> None:
    failed = world.wait_phase("no-program", "Failed")
    state = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["reason"] in ("StartError", "ContainerCannotRun")
    assert state["exitCode"] == 128
    assert "no such file or directory" in state["message"]


def daemon_set(world: Namespace, name: str) -> dict[str, object]:
    labels = {"app": name}
    pods = {"containers": [container(world.nodeless.image)], "tolerations": TOLERATIONS}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 2, **pods}},
        },
    }


def test_a_daemon_set_pod_stays_pending_with_an_event_and_costs_nothing(world: Namespace) -> None:
    world.apply(daemon_set(world, "everywhere"))
    world.kubectl("wait", "daemonset/everywhere", "--for=jsonpath={.status.currentNumberScheduled}=2", "--timeout=60s")
    for item in world.pods_of("everywhere"):
        world.wait_event(item["metadata"]["name"], "DaemonSetNotSupported")
        assert not [one for one in world.nodeless.instances.live() if one.pod_uid == item["metadata"]["uid"]]
        assert item["status"]["phase"] == "Pending"


def test_a_daemon_set_whose_pods_are_selected_runs_on_every_node(world: Namespace) -> None:
    world.apply(daemon_set(world, "exporter"))
    world.kubectl("rollout", "status", "daemonset/exporter", "--timeout=90s")
    assert {item["spec"]["nodeName"] for item in world.pods_of("exporter")} == set(world.nodeless.nodes)
    world.kubectl("delete", "daemonset", "exporter")
