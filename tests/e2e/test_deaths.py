"""SIGKILL to the parts of an instance: the pod's containers are not touched by what only watches over them. And one
agent that hangs from the first test to the last."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.instances import is_alive
from tests.e2e.manifest import container, deployment, job, pod, service
from tests.e2e.nodeless import Namespace, condition, container_ids, container_status, is_ready, restarts, terminated
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    probed = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    namespace.apply(
        pod("agentless", container(image, **probed)),
        pod("runtimeless", container(image, **probed)),
        pod("bystander", container(image, **probed)),
        pod("crashing", container(image, "sleep 3600")),
        pod("hung", container(image, **probed)),
        service("hung", 8080),
        deployment("web", 2, container(image)),
        job("work", container(image, "sleep 3600")),
    )
    namespace.wait_ready("agentless", "runtimeless", "bystander", "crashing", "hung")
    until("the Service has its endpoint", lambda: namespace.ready_endpoints("hung"))
    return namespace


@pytest.fixture(scope="module")
def hung(world: Namespace) -> Iterator[Json]:
    """The pod as it was before its agent hung: the process is there, takes connections, and says nothing."""
    before, agent = world.pod("hung"), world.instance("hung").service("vk-agent")
    os.kill(agent, signal.SIGSTOP)
    try:
        yield before
    finally:
        os.kill(agent, signal.SIGCONT)


def kill_service(world: Namespace, name: str, service: str) -> None:
    """SIGKILL, and wait until process 1 has started it again."""
    instance = world.instance(name)
    pid = instance.service(service)
    os.kill(pid, signal.SIGKILL)
    until(f"{service} is dead", lambda: not is_alive(pid), 10)

    def again() -> bool:
        return any(one != pid for one in instance.processes(service))

    until(f"{service} runs again", again)


def require_untouched(world: Namespace, name: str, before: list[str]) -> None:
    """The same containers run, none was restarted, and the way to them is open."""
    after = world.wait_ready(name)[0]
    assert container_ids(after) == before
    assert restarts(after) == 0
    world.execute(name, "true")


def test_the_death_of_an_agent_restarts_no_container(world: Namespace, hung: Json) -> None:
    before = container_ids(world.pod("agentless"))
    kill_service(world, "agentless", "vk-agent")
    until("exec works again", lambda: world.execute("agentless", "true", check=False).returncode == 0)
    require_untouched(world, "agentless", before)


def test_an_exec_whose_agent_dies_fails(world: Namespace) -> None:
    with world.background("exec", "agentless", "--", "sh", "-c", "echo started; sleep 600") as exec_process:
        assert exec_process.stdout is not None
        assert exec_process.stdout.readline() == "started\n"
        kill_service(world, "agentless", "vk-agent")
        output, _ = exec_process.communicate(timeout=30)
    assert exec_process.returncode not in (0, None), output
    assert "the stream was closed before the command ended" in output


def test_what_happens_while_the_agent_is_dead_is_told_afterwards(world: Namespace) -> None:
    instance = world.instance("agentless")
    shell = instance.processes("sh")[0]
    os.kill(instance.service("vk-agent"), signal.SIGKILL)
    os.kill(shell, signal.SIGKILL)
    again = world.wait_pod("agentless", "its container restarted", lambda item: restarts(item) == 1)
    assert container_status(again)["lastState"]["terminated"]["exitCode"] == 137
    world.wait_ready("agentless")


def test_the_death_of_containerd_restarts_no_container(world: Namespace) -> None:
    before = container_ids(world.pod("runtimeless"))
    kill_service(world, "runtimeless", "containerd")
    until("exec works again", lambda: world.execute("runtimeless", "true", check=False).returncode == 0)
    require_untouched(world, "runtimeless", before)
    world.wait_pod("runtimeless", "Ready", is_ready)


def test_a_pod_whose_containerd_died_can_still_be_deleted(world: Namespace) -> None:
    uid = world.pod("runtimeless")["metadata"]["uid"]
    os.kill(world.instance("runtimeless").service("containerd"), signal.SIGKILL)
    world.kubectl("delete", "pod", "runtimeless", timeout_s=90)
    world.wait_no_instance(uid)


def test_a_container_that_dies_is_restarted_on_its_instance(world: Namespace) -> None:
    instance = world.instance("crashing")
    os.kill(next(iter(instance.processes("sleep"))), signal.SIGKILL)
    again = world.wait_pod("crashing", "restarted", lambda item: restarts(item) == 1 and is_ready(item))
    last = container_status(again)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "Error")
    assert world.instance("crashing").record.instance_id == instance.record.instance_id


def test_the_death_of_an_instance_fails_its_pod_with_reason_condition_and_event(world: Namespace) -> None:
    instance = world.instance("crashing")
    instance.kill()
    failed = world.wait_phase("crashing", "Failed")
    assert failed["status"]["reason"] == "InstanceTerminated"
    assert instance.record.instance_id in failed["status"]["message"]
    assert condition(failed, "DisruptionTarget")["status"] == "True"
    assert condition(failed, "Ready")["status"] == "False"
    assert terminated(failed)["exitCode"] == 137
    world.wait_event("crashing", "InstanceTerminated")
    world.wait_no_instance(failed["metadata"]["uid"])


def test_a_deployment_replaces_a_pod_whose_instance_died(world: Namespace) -> None:
    before = world.wait_deployed("web", 2)
    world.nodeless.instances.of_pod(before[0]["metadata"]["uid"]).kill()
    until(
        "another pod takes its place",
        lambda: (
            {one["metadata"]["uid"] for one in world.wait_deployed("web", 2)}
            != {one["metadata"]["uid"] for one in before}
        ),
    )


def test_a_job_can_tell_a_lost_instance_from_a_failed_program(world: Namespace) -> None:
    item = next(one for one in world.get("pods")["items"] if one["metadata"]["name"].startswith("work-"))
    name = item["metadata"]["name"]
    world.wait_ready(name)
    world.instance(name).kill()
    failed = world.wait_phase(name, "Failed")
    assert condition(failed, "DisruptionTarget")["reason"] == "TerminationByKubelet"


def test_a_pod_whose_agent_hangs_leaves_its_services_until_the_agent_is_back(world: Namespace, hung: Json) -> None:
    def is_silent(item: Json) -> bool:
        return condition(item, "Ready").get("reason") == "AgentUnreachable"

    unready = world.wait_pod("hung", "not Ready", is_silent)
    instance = world.instance("hung")
    assert condition(unready, "Ready")["status"] == "False"
    assert instance.record.instance_id in condition(unready, "Ready")["message"]
    assert condition(unready, "ContainersReady") == condition(hung, "ContainersReady")
    assert (unready["status"]["phase"], container_ids(unready)) == ("Running", container_ids(hung))
    world.wait_event("hung", "AgentUnreachable", instance.record.instance_id)
    until("the Service leaves the pod out", lambda: not world.ready_endpoints("hung"))

    os.kill(instance.service("vk-agent"), signal.SIGCONT)
    again = world.wait_ready("hung")[0]
    assert condition(again, "Ready")["lastTransitionTime"] >= condition(unready, "Ready")["lastTransitionTime"]
    world.wait_event("hung", "AgentReachable")
    until("the Service has the pod again", lambda: world.ready_endpoints("hung"))
    require_untouched(world, "hung", container_ids(hung))


def test_others_are_not_touched_by_any_of_this(world: Namespace) -> None:
    bystander = world.pod("bystander")
    assert is_ready(bystander) and restarts(bystander) == 0
