"""The life of pods as their owner sees it with kubectl."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import SLEEP, container, deployment, job, pod
from tests.e2e.nodeless import Namespace, Nodeless, condition, container_status, is_ready, restarts, terminated
from tests.e2e.until import until
from vk_provider.cloud.base import TAG_POD_NAME
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

SERVE = "echo serving; mkdir /www; echo hello from $POD_NAME > /www/index.html; exec httpd -f -p 8080 -h /www"
COUNT = 'n=$(cat /data/n 2>/dev/null || echo 0); echo "run $n"; echo $((n + 1)) > /data/n'
WELL = {"exec": {"command": ["cat", "/tmp/well"]}, "periodSeconds": 1, "failureThreshold": 2}
POD_NAME = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    """A Deployment of 3, a Job with an init container, a pod with two containers, one that fails, one that restarts,
    one that its probe kills once and one with a sidecar: made at once, so that they start side by side."""
    image = namespace.nodeless.image
    shared: Json = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volumes = [{"name": "data", "emptyDir": {}}]
    namespace.apply(
        deployment(
            "web",
            3,
            container(
                image,
                SERVE,
                env=[POD_NAME],
                ports=[{"containerPort": 8080}],
                readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            ),
        ),
        job(
            "report",
            container(image, 'read a b < /data/numbers && echo "sum: $((a + b))"', **shared),
            initContainers=[container(image, 'echo "3 4" > /data/numbers; echo fetched', "fetch", **shared)],
            volumes=volumes,
        ),
        pod(
            "pair",
            container(image, "while true; do date >> /data/log; sleep 1; done", "writer", **shared),
            container(image, "touch /data/log; tail -f /data/log", "reader", **shared),
            volumes=volumes,
        ),
        pod("broken", container(image, "echo it went wrong; exit 7"), restartPolicy="Never"),
        pod("again", container(image, f"{COUNT}; [ $n -gt 0 ] || exit 3; {SLEEP}", **shared), volumes=volumes),
        pod(
            "revived",
            container(image, f"{COUNT}; [ $n -gt 0 ] && touch /tmp/well; {SLEEP}", livenessProbe=WELL, **shared),
            restartPolicy="OnFailure",
            volumes=volumes,
        ),
        pod(
            "assisted",
            container(image, "sleep 4; exit 1"),
            initContainers=[
                container(image, f"{COUNT}; [ $n -gt 0 ] || exit 3; {SLEEP}", "side", restartPolicy="Always", **shared)
            ],
            volumes=volumes,
        ),
    )
    return namespace


def test_each_pod_of_a_deployment_gets_its_own_instance(world: Namespace) -> None:
    pods = world.wait_deployed("web", 3)
    instances = [world.nodeless.instances.of_pod(item["metadata"]["uid"]) for item in pods]
    assert len({instance.record.instance_id for instance in instances}) == 3
    for item, instance in zip(pods, instances, strict=True):
        assert instance.record.tags[TAG_POD_NAME] == item["metadata"]["name"]
        assert item["status"]["podIP"] == instance.record.addresses.pod_ip
        assert item["status"]["hostIP"] == instance.record.addresses.primary_ip
        assert item["spec"]["nodeName"] in world.nodeless.nodes


def test_the_choice_of_the_instance_is_told_in_an_event_and_a_condition(world: Namespace) -> None:
    name = world.wait_deployed("web", 3)[0]["metadata"]["name"]
    record = world.instance(name).record
    launched = world.wait_event(name, "InstanceLaunched")
    chosen = condition(world.pod(name), "vk-provider.io/InstanceSelected")
    assert chosen["status"] == "True"
    for text in (launched["message"], chosen["message"]):
        assert record.instance_type in text and record.zone in text and "$" in text
    described = world.describe(name)
    for reason in ("Scheduled", "InstanceLaunched", "Pulled", "Created", "Started"):
        assert reason in described


def test_a_job_with_an_init_container_completes(world: Namespace) -> None:
    world.kubectl("wait", "job/report", "--for=condition=Complete", "--timeout=90s")
    item = world.get("pods", "")["items"]
    name = next(one["metadata"]["name"] for one in item if one["metadata"]["name"].startswith("report-"))
    finished = world.wait_phase(name, "Succeeded")
    assert terminated(finished)["exitCode"] == 0
    assert finished["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


def test_logs_of_a_completed_pod_are_there_after_its_instance_is_gone(world: Namespace) -> None:
    world.kubectl("wait", "job/report", "--for=condition=Complete", "--timeout=90s")
    item = next(one for one in world.get("pods")["items"] if one["metadata"]["name"].startswith("report-"))
    world.wait_no_instance(item["metadata"]["uid"])
    name = item["metadata"]["name"]
    assert world.logs(name) == "sum: 7\n"
    assert world.logs(name, "-c", "fetch") == "fetched\n"
    assert "sum: 7" in world.logs(name, "--timestamps", "--tail=1")


def test_a_program_that_fails_makes_the_pod_fail_with_its_exit_code_and_logs(world: Namespace) -> None:
    failed = world.wait_phase("broken", "Failed")
    assert terminated(failed)["exitCode"] == 7
    assert terminated(failed)["reason"] == "Error"
    world.wait_no_instance(failed["metadata"]["uid"])
    assert world.logs("broken") == "it went wrong\n"


def test_a_container_that_fails_is_started_again_and_its_previous_log_stays(world: Namespace) -> None:
    again = world.wait_pod("again", "restarted once and Ready", lambda item: container_status(item).get("ready"))
    assert restarts(again) == 1
    assert container_status(again)["lastState"]["terminated"]["exitCode"] == 3
    assert world.logs("again") == "run 1\n"
    assert world.logs("again", "--previous") == "run 0\n"


def test_a_container_that_its_probe_kills_is_told_to_run_again_whatever_its_exit_code(world: Namespace) -> None:
    revived = world.wait_pod("revived", "restarted once and Ready", lambda item: restarts(item) == 1 and is_ready(item))
    assert revived["status"]["phase"] == "Running"
    assert container_status(revived)["lastState"]["terminated"]["exitCode"] == 0
    assert "FailedStatusUpdate" not in {event["reason"] for event in world.events("revived")}


def test_the_previous_log_of_a_sidecar_outlives_the_restarts_of_others(world: Namespace) -> None:
    assisted = world.wait_pod("assisted", "its container restarted", lambda item: restarts(item) > 0)
    assert assisted["status"]["initContainerStatuses"][0]["restartCount"] == 1
    assert world.logs("assisted", "-c", "side", "--previous") == "run 0\n"


def test_two_containers_share_a_volume_and_each_has_its_log(world: Namespace) -> None:
    world.wait_ready("pair")
    until("the reader sees the writer's lines", lambda: len(world.logs("pair", "-c", "reader").splitlines()) > 1)
    assert world.logs("pair", "-c", "writer") == ""
    refused = world.kubectl("logs", "pair", "-c", "nobody", check=False)
    assert refused.returncode != 0 and "nobody" in refused.stderr


def test_logs_can_be_followed_while_they_grow(world: Namespace) -> None:
    world.wait_ready("pair")
    with world.background("logs", "-f", "pair", "-c", "reader", "--tail=1") as follow:
        assert follow.stdout is not None
        first, second = follow.stdout.readline(), follow.stdout.readline()
    assert first.strip() and second.strip()


def test_pods_reach_each_other_and_their_node_by_address(world: Namespace) -> None:
    one, other = world.wait_deployed("web", 3)[:2]
    fetched = world.execute(one["metadata"]["name"], f"wget -qO- http://{other['status']['podIP']}:8080/")
    assert fetched.stdout == f"hello from {other['metadata']['name']}\n"


def test_the_api_server_reaches_a_pod_through_its_proxy(world: Namespace) -> None:
    name = world.wait_deployed("web", 3)[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{world.name}/pods/{name}:8080/proxy/"
    assert world.nodeless.plane.rest.request("GET", path) == f"hello from {name}\n"


def test_a_deleted_pod_is_replaced_and_its_instance_is_gone(world: Namespace) -> None:
    before = world.wait_deployed("web", 3)
    victim = before[0]["metadata"]
    world.kubectl("delete", "pod", victim["name"])
    world.wait_no_instance(victim["uid"])
    after = world.wait_deployed("web", 3)
    assert victim["uid"] not in [item["metadata"]["uid"] for item in after]


def test_a_deleted_pod_may_end_by_itself_within_its_grace_period(namespace: Namespace, nodeless: Nodeless) -> None:
    script = 'trap "echo tidy; sleep 1; echo done; exit 0" TERM; echo up; while true; do sleep 1 & wait; done'
    namespace.apply(pod("polite", container(nodeless.image, script), terminationGracePeriodSeconds=20))
    uid = namespace.wait_ready("polite")[0]["metadata"]["uid"]
    until("the trap is set", lambda: namespace.logs("polite") == "up\n")
    with namespace.background("logs", "-f", "polite") as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "up\n"
        namespace.kubectl("delete", "pod", "polite", "--wait=false")
        assert follow.stdout.read() == "tidy\ndone\n"
    namespace.wait_no_instance(uid)
    assert namespace.kubectl("get", "pod", "polite", check=False).returncode != 0


def test_a_pod_deleted_by_force_leaves_no_instance(namespace: Namespace, nodeless: Nodeless) -> None:
    namespace.apply(pod("forced", container(nodeless.image, "trap '' TERM; while true; do sleep 1; done")))
    uid = namespace.wait_ready("forced")[0]["metadata"]["uid"]
    namespace.kubectl("delete", "pod", "forced", "--force", "--grace-period=0")
    namespace.wait_no_instance(uid)
