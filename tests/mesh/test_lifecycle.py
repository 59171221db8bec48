"""The order of starts and ends: Jobs complete, sidecars end last, a classic sidecar starts first when asked to."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.nodeless import container_ids, is_ready
from tests.e2e.until import until
from tests.mesh.world import CLIENT, READY_LIMIT_S, Mesh
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real


def test_a_job_with_a_sidecar_completes(mesh: Mesh) -> None:
    with mesh.applied("job"):
        words = ("wait", "job/report", "--for=condition=Complete", f"--timeout={READY_LIMIT_S:.0f}s")
        mesh.inside.kubectl(*words, timeout_s=READY_LIMIT_S + 10)
        assert " answered" in mesh.inside.kubectl("logs", "job/report", "-c", "report").stdout


def test_the_sidecar_outlives_the_application_on_termination(mesh: Mesh) -> None:
    with mesh.applied("last-words"):
        mesh.inside.wait_pod("last-words", "Ready", is_ready, READY_LIMIT_S)
        with mesh.inside.background("logs", "-f", "last-words", "-c", "main") as following:
            assert following.stdout is not None
            assert following.stdout.readline() == "waiting\n"
            mesh.inside.kubectl("delete", "pod", "last-words")
            rest = following.stdout.read()
    assert rest.startswith("web-") and " answered last" in rest


def test_a_sidecar_that_dies_is_started_again_and_the_application_goes_on(mesh: Mesh) -> None:
    (envoy,) = mesh.inside.instance(CLIENT).processes("envoy")
    before = mesh.inside.pod(CLIENT)
    (status,) = [item for item in before["status"]["initContainerStatuses"] if item["name"] == "istio-proxy"]
    os.kill(envoy, signal.SIGKILL)

    def is_back(pod: Json) -> bool:
        (now,) = [item for item in pod["status"]["initContainerStatuses"] if item["name"] == "istio-proxy"]
        return is_ready(pod) and now["restartCount"] == status["restartCount"] + 1

    after = mesh.inside.wait_pod(CLIENT, "its sidecar is back", is_back)
    assert container_ids(after) == container_ids(before)
    assert mesh.statuses("http://web/hostname", 30) == {200: 30}


def test_a_classic_sidecar_that_holds_the_application_is_up_before_its_first_request(mesh: Mesh) -> None:
    with mesh.applied("classic"):
        pod = mesh.inside.wait_pod("classic", "Ready", is_ready, READY_LIMIT_S)
        assert [item["name"] for item in pod["spec"]["containers"]] == ["istio-proxy", "main"]
        assert [item["name"] for item in pod["spec"]["initContainers"]] == ["istio-init"]
        assert pod["spec"]["containers"][0]["lifecycle"]["postStart"]["exec"]["command"] == ["pilot-agent", "wait"]
        until("its first word", lambda: " answered first" in mesh.inside.logs("classic", "-c", "main"))
        status = {item["name"]: item for item in pod["status"]["containerStatuses"]}
        assert status["main"]["restartCount"] == 0
        started = [status[name]["state"]["running"]["startedAt"] for name in ("istio-proxy", "main")]
        assert started == sorted(started)
