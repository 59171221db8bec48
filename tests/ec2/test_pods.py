"""Pods on EC2's backend: each on an instance that was launched by its API and has booted as one does there."""

from __future__ import annotations

import time

import pytest

from tests.e2e.manifest import SLEEP, container, deployment, pod
from tests.e2e.nodeless import Namespace, condition, is_deleting
from tests.e2e.until import until
from tests.ec2.cluster import Ec2Cluster

pytestmark = pytest.mark.real

SPOT = {"vk-provider/capacity-type": "spot", "vk-provider/allow-instance-metadata": "true"}
"""The endpoint stays open here: on an image with control groups v2 the agent alone reaches it."""


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    spot = pod("spot", container(image, f"echo begun; {SLEEP}"))
    spot["metadata"]["annotations"] = SPOT
    replicated = deployment("web", 1, container(image))
    replicated["spec"]["template"]["metadata"]["annotations"] = SPOT
    namespace.apply(
        pod("plain", container(image, f"echo hello; {SLEEP}")), pod("dying", container(image)), spot, replicated
    )
    return namespace


def test_a_pod_runs_on_an_instance_of_its_own_with_the_instances_second_address(
    world: Namespace, nodeless: Ec2Cluster
) -> None:
    (ready,) = world.wait_ready("plain")
    instance = world.instance("plain")
    described = nodeless.look(instance.record.instance_id)
    (interface,) = described["NetworkInterfaces"]
    second = [each["PrivateIpAddress"] for each in interface["PrivateIpAddresses"] if not each["Primary"]]
    assert [ready["status"]["podIP"]] == second
    assert ready["status"]["hostIP"] == described["PrivateIpAddress"]
    assert described["State"]["Name"] == "running"
    options = described["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_logs_and_exec_reach_it(world: Namespace) -> None:
    world.wait_ready("plain")
    assert world.logs("plain") == "hello\n"
    assert world.execute("plain", "hostname; cat > /tmp/x; cat /tmp/x", "-i", stdin="typed").stdout == "plain\ntyped"
    assert world.execute("plain", "exit 7", check=False).returncode == 7


def test_the_pod_cannot_reach_the_metadata(world: Namespace) -> None:
    world.wait_ready("plain")
    asked = world.execute("plain", "wget -q -T 2 -O- http://169.254.169.254/latest/user-data", check=False)
    assert asked.returncode != 0 and "BootData" not in asked.stdout


def test_its_end_ends_the_instance_in_ec2_and_its_sandbox(world: Namespace, nodeless: Ec2Cluster) -> None:
    world.wait_ready("plain")
    instance, uid = world.instance("plain"), world.pod("plain")["metadata"]["uid"]
    world.kubectl("delete", "pod", "plain")
    until("EC2 has terminated it", lambda: nodeless.state(instance.record.instance_id) == "terminated")
    world.wait_no_instance(uid)
    until("nothing is left of it", lambda: not instance.directory.exists())


def test_a_machine_that_shuts_down_is_terminated_in_ec2_and_fails_its_pod(
    world: Namespace, nodeless: Ec2Cluster
) -> None:
    world.wait_ready("dying")
    instance = world.instance("dying")
    instance.kill()
    failed = world.wait_phase("dying", "Failed")
    assert failed["status"]["reason"] == "InstanceTerminated"
    assert condition(failed, "DisruptionTarget")["status"] == "True"
    assert nodeless.state(instance.record.instance_id) == "terminated"


def test_a_pod_that_may_ask_the_metadata_gets_no_session_beyond_the_hop_limit(world: Namespace) -> None:
    """The answer to the PUT that begins one goes no further than the instance."""
    world.wait_ready("spot")
    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
    heads = {
        "GET": "GET /latest/meta-data/ HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n",
        "PUT": f"PUT /latest/api/token HTTP/1.1\\r\\n{ttl}\\r\\n\\r\\n",
    }
    answers = {
        verb: world.execute("spot", f"printf '{head}' | timeout 5 nc 169.254.169.254 80", check=False).stdout
        for verb, head in heads.items()
    }
    assert answers["GET"].startswith("HTTP/1.1 401 ")
    assert answers["PUT"] == ""


def test_a_spot_interruption_stops_the_pod_in_time(world: Namespace, nodeless: Ec2Cluster) -> None:
    world.wait_ready("spot")
    instance = world.instance("spot")
    assert nodeless.look(instance.record.instance_id)["InstanceLifecycle"] == "spot"
    nodeless.interrupt(instance.record.instance_id, 120)
    began = time.monotonic()
    failed = world.wait_phase("spot", "Failed", 60)
    assert time.monotonic() - began < 60
    assert (failed["status"]["reason"], condition(failed, "DisruptionTarget")["status"]) == ("Terminated", "True")
    assert "imminent node shutdown" in failed["status"]["message"]
    event = world.wait_event("spot", "InstanceInterrupted")
    assert "terminate" in event["message"]
    assert world.logs("spot") == "begun\n"  # kept, though the instance is gone
    until("its instance was given back", lambda: nodeless.state(instance.record.instance_id) == "terminated")


def test_a_deployment_replaces_a_pod_that_is_interrupted(world: Namespace, nodeless: Ec2Cluster) -> None:
    (before,) = world.wait_deployed("web", 1)
    nodeless.interrupt(nodeless.instances.of_pod(before["metadata"]["uid"]).record.instance_id, 120)

    def replaced() -> bool:
        pods = [each for each in world.pods_of("web") if not is_deleting(each)]
        ready = [each for each in pods if condition(each, "Ready").get("status") == "True"]
        return any(each["metadata"]["uid"] != before["metadata"]["uid"] for each in ready)

    until("another pod is Ready", replaced, 90, explain=nodeless.describe_instances)
