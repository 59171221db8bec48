"""What the webhook writes into a pod works: init container, native sidecar, rewritten probes, redirection."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.e2e.nodeless import container_status, is_ready, restarts
from tests.mesh.world import CLIENT, OUTSIDER, Mesh
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real


def init_status(pod: Json, name: str) -> Json:
    return next(item for item in pod["status"]["initContainerStatuses"] if item["name"] == name)


def test_the_webhook_injects_a_native_sidecar_because_of_the_nodes_kubelet_version(mesh: Mesh) -> None:
    for node in mesh.nodeless.get("nodes")["items"]:
        version = re.fullmatch(r"v1\.(\d+)\.\d+(\+[\w.]+)?", node["status"]["nodeInfo"]["kubeletVersion"])
        assert version and int(version[1]) >= 33
    pod = mesh.inside.pod(CLIENT)
    names = [(item["name"], item.get("restartPolicy")) for item in pod["spec"]["initContainers"]]
    assert names == [("istio-init", None), ("istio-proxy", "Always")]
    assert [item["name"] for item in pod["spec"]["containers"]] == [CLIENT]
    assert len(mesh.outside.pod(OUTSIDER)["spec"].get("initContainers") or []) == 0


def test_the_sidecar_is_started_and_ready_before_the_application_starts(mesh: Mesh) -> None:
    pod = mesh.inside.pod(CLIENT)
    assert is_ready(pod)
    ended = init_status(pod, "istio-init")["state"]["terminated"]
    proxy = init_status(pod, "istio-proxy")
    main = pod["status"]["containerStatuses"][0]
    assert ended["exitCode"] == 0 and proxy["ready"] and proxy["started"]
    begun = proxy["state"]["running"]["startedAt"]
    assert ended["finishedAt"] <= begun <= main["state"]["running"]["startedAt"]


def test_istio_inits_rules_are_in_the_pods_network_namespace_and_only_there(mesh: Mesh) -> None:
    instance = mesh.inside.instance(CLIENT)
    (pid, *_) = instance.processes("envoy")
    rules = instance.run("for pid in $(pgrep -x envoy); do nsenter -t $pid -n iptables-save -t nat; done")
    assert pid
    assert "-A OUTPUT -j ISTIO_OUTPUT" in rules or "-A OUTPUT -p tcp -j ISTIO_OUTPUT" in rules
    assert "-m owner --uid-owner 1337" in rules
    assert "--to-ports 15001" in rules and "--to-ports 15006" in rules
    assert "ISTIO" not in instance.run("nft list ruleset")


def test_the_applications_probe_is_rewritten_to_the_agents_port_and_decides_about_ready(mesh: Mesh) -> None:
    for pod in mesh.pods("app=web"):
        probe = pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        assert (probe["port"], probe["path"]) == (15020, "/app-health/web/readyz")
        assert is_ready(pod)


def test_a_pod_is_ready_while_its_application_and_its_proxy_are_although_nobody_may_call_without_a_certificate(
    mesh: Mesh,
) -> None:
    pods = mesh.inside
    with mesh.applied("strict", "probed"):
        running = pods.wait_pod("probed", "started", lambda pod: container_status(pod, "main").get("started"))
        assert running["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] == 15020
        assert init_status(running, "istio-proxy")["ready"] and not is_ready(running)
        address = running["status"]["podIP"]
        refused = mesh.wait_get(
            "strict", f"http://{address}:8080/etc", lambda answer: answer.exit_code != 0, source=OUTSIDER
        )
        assert refused.status == 0
        pods.execute("probed", "touch /tmp/ready")
        pods.wait_pod("probed", "Ready by its application", is_ready)
        pods.execute("probed", "rm /tmp/ready")
        pods.wait_pod("probed", "not Ready by its application", lambda pod: not is_ready(pod))
        pods.execute("probed", "touch /tmp/ready")
        pods.wait_pod("probed", "Ready again", is_ready)
        (envoy,) = pods.instance("probed").processes("envoy")
        os.kill(envoy, signal.SIGSTOP)
        frozen = pods.wait_pod("probed", "not Ready by its proxy", lambda pod: not is_ready(pod))
        assert not init_status(frozen, "istio-proxy")["ready"]
        os.kill(envoy, signal.SIGCONT)
        whole = pods.wait_pod("probed", "Ready with its proxy", is_ready)
        assert restarts(whole) == init_status(whole, "istio-proxy")["restartCount"] == 0


def test_outbound_and_inbound_requests_go_through_the_proxies(mesh: Mesh) -> None:
    answer = mesh.get("http://web/hostname")
    assert answer.status == 200 and answer.body.startswith("web-v")
    assert "server: envoy" in answer.headers
    outside = mesh.get("http://web.mesh/hostname", source=OUTSIDER)
    assert outside.status == 200 and "server: istio-envoy" in outside.headers
