"""Volumes that follow what changes in the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.manifest import SLEEP, config_map, container, pod, secret
from tests.e2e.nodeless import Namespace
from tests.e2e.until import until

pytestmark = pytest.mark.real

TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    names = ("config", "secret", "labels", "both")
    downward = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    projected = {"sources": [{"configMap": {"name": "settings"}}, {"secret": {"name": "keys"}}]}
    namespace.apply(
        config_map("settings", colour="red", gone="soon"),
        secret("keys", password="old"),
        pod(
            "follower",
            container(
                namespace.nodeless.image,
                SLEEP,
                volumeMounts=[{"name": name, "mountPath": f"/{name}"} for name in names],
            ),
            volumes=[
                {"name": "config", "configMap": {"name": "settings"}},
                {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 0o400}},
                {"name": "labels", "downwardAPI": downward},
                {"name": "both", "projected": projected},
            ],
        ),
    )
    namespace.wait_ready("follower")
    return namespace


def test_a_config_map_volume_follows_its_config_map(world: Namespace) -> None:
    assert world.execute("follower", "cat /config/colour").stdout == "red"
    world.kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"colour":"blue","gone":null}}')
    wait_for(world, "cat /config/colour; ls /config", "bluecolour\n")
    wait_for(world, "cat /both/colour", "blue")


def test_a_secret_volume_follows_its_secret_and_keeps_its_mode(world: Namespace) -> None:
    world.apply(secret("keys", password="new"))
    wait_for(world, "cat /secret/password; stat -Lc %a /secret/password", "new400\n")
    wait_for(world, "cat /both/password", "new")


def test_a_downward_volume_follows_the_pods_labels(world: Namespace) -> None:
    world.kubectl("label", "pod", "follower", "stage=late")
    wait_for(world, "grep -v topology /labels/labels", 'app="follower"\nstage="late"\n')


def test_secrets_and_tokens_are_kept_in_memory_not_on_disk(world: Namespace) -> None:
    kinds = world.execute("follower", f"stat -fc %T /secret {TOKEN_DIR}").stdout.split()
    assert kinds == ["tmpfs", "tmpfs"]


def test_the_pods_own_token_is_accepted_by_the_api_server(world: Namespace) -> None:
    token = world.execute("follower", f"cat {TOKEN_DIR}/token").stdout
    plane = world.nodeless.plane
    who = plane.kubectl(
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
        "--server",
        plane.url,
        "--certificate-authority",
        str(plane.ca),
        "--token",
        token,
        kubeconfig=Path("/dev/null"),
    ).stdout
    assert who == f"system:serviceaccount:{world.name}:default"
    assert "BEGIN CERTIFICATE" in world.execute("follower", f"cat {TOKEN_DIR}/ca.crt").stdout


def test_the_node_says_what_its_runtime_can_mount_and_admission_keeps_to_it(world: Namespace) -> None:
    status = world.nodeless.get("node", world.nodeless.node)["status"]
    name, _, version = status["nodeInfo"]["containerRuntimeVersion"].partition("://")
    handlers = {handler["name"]: handler["features"] for handler in status.get("runtimeHandlers") or []}
    recursive = handlers.get("", {}).get("recursiveReadOnlyMounts", False)
    image = world.nodeless.image
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    fields = {"nodeName": world.nodeless.node, "restartPolicy": "Never"}
    world.apply(
        pod(
            "image-volume",
            container(image, "ls /data/bin/busybox", volumeMounts=[mount]),
            volumes=[{"name": "data", "image": {"reference": image}}],
            **fields,
        ),
        pod(
            "recursive",
            container(image, "! touch /data/x", volumeMounts=[{**mount, "recursiveReadOnly": "Enabled"}]),
            volumes=[{"name": "data", "emptyDir": {}}],
            **fields,
        ),
        pod("strict", container(image, "id -G"), securityContext={"supplementalGroupsPolicy": "Strict"}, **fields),
    )
    assert name == "containerd"
    able = {
        "image-volume": tuple(map(int, version.split("."))) >= (2, 1),
        "recursive": recursive,
        "strict": status.get("features", {}).get("supplementalGroupsPolicy", False),
    }
    for each, runs in able.items():
        ended = world.wait_phase(each, "Succeeded" if runs else "Failed")
        assert runs or "not supported" in ended["status"]["message"], ended["status"]


def wait_for(world: Namespace, script: str, expected: str) -> None:
    until(
        f"{script!r} prints {expected!r}",
        lambda: world.execute("follower", script).stdout == expected,
        explain=lambda: world.execute("follower", script).stdout,
    )
