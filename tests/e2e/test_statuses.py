"""Statuses and events as of a kubelet: what others change is put right, and the words are the same."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.manifest import container, pod, service
from tests.e2e.nodeless import Namespace, condition, container_status, is_ready
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

STUBBORN = 'trap "echo told to stop; exit 3" TERM; while true; do sleep 0.2; done'
TAKEN = ("containerStatuses", "podIP", "podIPs", "hostIP", "hostIPs", "startTime")
FINALIZER = "example.com/hold"


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    shown = {"name": "d", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}]}}
    wrong = [
        {"name": "h", "hostPath": {"path": "/dev/null", "type": "BlockDevice"}},
        {"name": "i", "hostPath": {"path": "/no/such/path", "type": "File"}},
        {"name": "j", "hostPath": {"path": "/no/such/dir/f", "type": "FileOrCreate"}},
    ]
    unstarted = pod("unstarted", container(image, securityContext={"runAsNonRoot": True}))
    unstarted["metadata"]["finalizers"] = [FINALIZER]
    namespace.apply(
        pod("told", container(image, volumeMounts=[{"name": "d", "mountPath": "/d"}]), volumes=[shown]),
        service("told", 8080),
        pod("ended", container(image, STUBBORN)),
        pod(
            "paths",
            container(image, volumeMounts=[{"name": item["name"], "mountPath": f"/{item['name']}"} for item in wrong]),
            volumes=wrong,
        ),
        unstarted,
    )
    namespace.wait_ready("told", "ended")
    return namespace


def patch(world: Namespace, name: str, status: Json) -> None:
    body = json.dumps({"status": status})
    world.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", body)


def states(item: Json) -> dict[str, str]:
    return {each["type"]: each["status"] for each in item["status"].get("conditions") or []}


@pytest.mark.parametrize(
    "change",
    [dict.fromkeys(TAKEN), {"conditions": None}, {"phase": "Pending"}],
    ids=["fields", "conditions", "phase"],
)
def test_what_others_take_from_a_status_comes_back_and_the_service_keeps_the_pod(
    world: Namespace, change: Json
) -> None:
    (before,) = world.wait_ready("told")
    address = before["status"]["podIP"]
    until("the Service has the pod", lambda: world.ready_endpoints("told") == {address})
    patch(world, "told", change)

    def restored(item: Json) -> bool:
        same = all(item["status"].get(name) == before["status"][name] for name in (*TAKEN, "phase", "qosClass"))
        return same and states(item) == states(before)

    world.wait_pod("told", "its status is as before", restored, 30)
    until("the Service has the pod again", lambda: world.ready_endpoints("told") == {address})


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_terminal_phase_that_others_set_is_put_back_and_the_container_runs_on(world: Namespace, phase: str) -> None:
    (before,) = world.wait_ready("ended")
    patch(world, "ended", {"phase": phase, "reason": "Manual", "message": "by a controller"})
    world.wait_pod("ended", "Running again", lambda item: item["status"]["phase"] == "Running", 30)
    after = world.pod("ended")
    assert is_ready(after) and "reason" not in after["status"] and "message" not in after["status"]
    assert container_status(after)["state"] == container_status(before)["state"]
    assert world.logs("ended") == ""


def test_the_downward_api_shows_the_annotations_of_the_kubelet(world: Namespace) -> None:
    world.wait_ready("told")
    text = world.execute("told", "cat /d/a").stdout
    seen = r'kubernetes\.io/config\.seen="20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"'
    assert re.search(rf'^{seen}\nkubernetes\.io/config\.source="api"$', text, re.MULTILINE), text
    annotations = world.pod("told")["metadata"].get("annotations") or {}
    assert not any(key.startswith("kubernetes.io/config.") for key in annotations)


def test_each_host_path_that_is_not_as_it_should_be_is_told_in_the_kubelets_words(world: Namespace) -> None:
    for name, text in (
        ("h", "hostPath type check failed: /dev/null is not a block device, it's a CharDevice"),
        (
            "i",
            "hostPath type check failed, /no/such/path is not a file, unable to determine its type: "
            'path "/no/such/path" does not exist',
        ),
        ("j", "open /no/such/dir/f: no such file or directory"),
    ):
        event = world.wait_event("paths", "FailedMount", f'"{name}"')
        assert event["message"] == f'MountVolume.SetUp failed for volume "{name}" : {text}'


def test_a_pod_that_never_started_ends_with_the_conditions_that_it_had(world: Namespace) -> None:
    world.wait_waiting("unstarted", "CreateContainerConfigError")
    world.kubectl("delete", "pod", "unstarted", "--wait=false")
    try:
        failed = world.wait_phase("unstarted", "Failed")
        assert container_status(failed)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
        for kind in ("Ready", "ContainersReady"):
            found = condition(failed, kind)
            assert (found["status"], found["reason"]) == ("False", "ContainersNotReady")
            assert found["message"] == "containers with unready status: [main]"
    finally:
        world.kubectl("patch", "pod", "unstarted", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
