from dataclasses import fields

import pytest

from tests.unit.podmodel.builders import CONTEXT, ended, make_pod, running, waiting
from vk_provider.podmodel.addresses import sort_pod_ips
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.status import (
    ContainerStatuses,
    Ending,
    PodEnd,
    SandboxFacts,
    build_pod_status,
    build_rejected_status,
)

READY = SandboxFacts(exists=True, ready=True, ips=("10.1.0.5",), started_containers=True)
GONE = SandboxFacts(exists=True, ready=False, started_containers=True)
T1, T2 = "2025-01-01T00:00:01Z", "2025-01-01T00:00:02Z"


def build(pod, regular, init=(), sandbox=READY, now=T1, context=CONTEXT, ephemeral=(), **more):
    """`more`: the fields of Ending by their names, and further arguments."""
    statuses = ContainerStatuses(list(init), list(regular), list(ephemeral))
    ending = Ending(**{item.name: more.pop(item.name) for item in fields(Ending) if item.name in more})
    return build_pod_status(pod, statuses, sandbox, context, now, ending=ending, **more)


def condition(status, name):
    found = next(c for c in status["conditions"] if c["type"] == name)
    return (found["status"], found.get("reason", ""), found.get("message", ""))


def test_a_running_ready_pod():
    status = build(make_pod({"name": "b"}, {"name": "a"}), [running("b"), running("a")])
    assert status["phase"] == "Running"
    assert [each["name"] for each in status["containerStatuses"]] == ["a", "b"]
    assert status["podIP"] == "10.1.0.5" and status["podIPs"] == [{"ip": "10.1.0.5"}]
    assert status["hostIP"] == "10.1.0.4" and status["hostIPs"] == [{"ip": "10.1.0.4"}]
    assert status["qosClass"] == "BestEffort" and status["startTime"] == T1 and status["observedGeneration"] == 3
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    assert [c["type"] for c in status["conditions"]] == list(types)
    assert all(c["status"] == "True" and c["observedGeneration"] == 3 for c in status["conditions"])


def test_transition_times_move_only_when_a_condition_changes():
    pod = make_pod()
    first = build(pod, [running("c", ready=False)])
    second = build(pod, [running("c")], now=T2, previous_status=first)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["Ready"] == times["ContainersReady"] == T2
    assert times["Initialized"] == times["PodScheduled"] == T1
    assert second["startTime"] == T1


def test_unready_and_unknown_containers_are_named():
    status = build(make_pod({"name": "a"}, {"name": "b"}), [running("a", ready=False)])
    text = "containers with unknown status: [b], containers with unready status: [a]"
    assert condition(status, "ContainersReady") == ("False", "ContainersNotReady", text)
    assert condition(status, "Ready") == ("False", "ContainersNotReady", text)
    assert status["phase"] == "Pending"


def test_no_statuses_at_all_is_unknown():
    status = build(make_pod(initContainers=[{"name": "i"}]), [], sandbox=SandboxFacts())
    assert condition(status, "Ready") == ("False", "UnknownContainerStatuses", "")
    assert condition(status, "Initialized") == ("False", "UnknownContainerStatuses", "")


@pytest.mark.parametrize(
    ("sandbox", "message"),
    [
        (SandboxFacts(), "no pod sandbox exists"),
        (SandboxFacts(exists=True), "pod sandbox is not ready"),
        (SandboxFacts(exists=True, ready=True), "pod sandbox has no IP address"),
    ],
)
def test_the_sandbox_condition_says_what_is_missing(sandbox, message):
    status = build(make_pod(), [waiting("c")], sandbox=sandbox)
    assert condition(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", message)
    assert "podIP" not in status


def test_a_host_network_pod_needs_no_address_of_its_own():
    status = build(make_pod(hostNetwork=True), [running("c")], sandbox=SandboxFacts(True, True))
    assert condition(status, "PodReadyToStartContainers")[0] == "True"
    assert status["podIP"] == status["hostIP"] == "10.1.0.4"


def test_initialized_waits_for_init_containers_and_sidecars():
    pod = make_pod(initContainers=[{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "z"}])
    status = build(pod, [waiting("c")], [running("a", ready=False), running("s", started=False)])
    text = "containers with unknown status: [z], containers with incomplete status: [a s]"
    assert condition(status, "Initialized") == ("False", "ContainersNotInitialized", text)
    done = build(pod, [waiting("c")], [ended("a"), running("s"), ended("z")])
    assert condition(done, "Initialized") == ("True", "", "")


def test_initialized_stays_once_a_regular_container_started():
    pod = make_pod(initContainers=[{"name": "s", "restartPolicy": "Always"}])
    status = build(pod, [running("c")], [running("s", started=False)])
    assert condition(status, "Initialized")[0] == "True"
    again = build(pod, [waiting("c")], [waiting("s")], previous_status=status)
    assert condition(again, "Initialized")[0] == "True"


def test_readiness_gates_read_the_conditions_of_the_api():
    gates = [{"conditionType": "x/a"}, {"conditionType": "x/b"}]
    pod = make_pod(readinessGates=gates, status={"conditions": [{"type": "x/b", "status": "False"}]})
    text = (
        'corresponding condition of pod readiness gate "x/a" does not exist., '
        'the status of pod readiness gate "x/b" is not "True", but False'
    )
    status = build(pod, [running("c")])
    assert condition(status, "Ready") == ("False", "ReadinessGatesNotReady", text)
    assert condition(status, "ContainersReady")[0] == "True"
    assert "x/b" not in {c["type"] for c in status["conditions"]}


def test_a_job_pod_that_completed():
    status = build(
        make_pod(restartPolicy="Never"), [ended("c")], sandbox=GONE, previous_status={"podIPs": [{"ip": "9.9.9.9"}]}
    )
    assert status["phase"] == "Succeeded"
    assert condition(status, "Ready") == ("False", "PodCompleted", "")
    assert condition(status, "ContainersReady") == ("False", "PodCompleted", "")
    assert condition(status, "Initialized") == ("True", "PodCompleted", "")
    assert condition(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", "pod sandbox is not ready")
    assert status["podIP"] == "9.9.9.9"


def test_a_terminal_phase_is_held_back_while_a_container_may_run():
    pod = make_pod({"name": "a"}, restartPolicy="Never", initContainers=[{"name": "s", "restartPolicy": "Always"}])
    before = build(pod, [running("a")], [running("s")])
    held = build(pod, [ended("a", 1)], [ended("s", 137)], previous_status=before, containers_may_run=True)
    assert held["phase"] == "Running"
    assert condition(held, "Ready") == ("False", "PodFailed", "")
    assert build(pod, [ended("a", 1)], [ended("s", 137)], previous_status=held)["phase"] == "Failed"


def test_a_terminal_phase_that_others_set_holds_while_containers_still_run_and_keeps_its_reason():
    before = build(make_pod(), [running("c")])
    pod = {**make_pod(), "status": {"phase": "Failed", "reason": "Odd", "message": "m"}}
    status = build(pod, [running("c")], previous_status=before)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Odd", "m")
    assert condition(status, "Ready") == condition(status, "ContainersReady") == ("False", "PodFailed", "")


def test_terminal_phases_are_never_left():
    pod = make_pod(restartPolicy="Always", status={"phase": "Failed", "reason": "Evicted", "message": "m"})
    status = build(pod, [running("c")])
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "m")
    assert build(make_pod(), [running("c")], previous_status={"phase": "Succeeded"})["phase"] == "Succeeded"


def test_an_evicted_pod_fails_with_its_reason_and_is_a_disruption_target():
    pod = make_pod()
    end = PodEnd("Evicted", "The node was low on resource: memory. ", disruption=True)
    before = build(pod, [running("c")])
    held = build(pod, [running("c")], cause=end, previous_status=before)
    assert held["phase"] == "Running" and "reason" not in held
    assert "DisruptionTarget" not in {c["type"] for c in held["conditions"]}
    status = build(pod, [ended("c", 137)], cause=end, previous_status=held, now=T2)
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert condition(status, "DisruptionTarget") == ("True", "TerminationByKubelet", end.message)
    later = build(pod, [ended("c", 137)], previous_status=status)
    assert (later["phase"], later["reason"], later["message"]) == ("Failed", "Evicted", end.message)
    assert condition(later, "DisruptionTarget")[0] == "True"


def test_a_finished_pod_has_an_end_for_every_container_that_may_have_run():
    pod = make_pod({"name": "a"}, {"name": "b"}, metadata={"deletionTimestamp": T1})
    status = build(pod, [running("a"), ended("b")], sandbox=GONE, finished=True)
    lost = status["containerStatuses"][0]
    assert lost["state"]["terminated"]["exitCode"] == 137
    assert lost["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert lost["state"]["terminated"]["message"] == "The container could not be located when the pod was terminated"
    assert lost["ready"] is False and status["phase"] == "Failed"


def test_containers_that_never_had_a_chance_stay_waiting_in_a_finished_pod():
    pod = make_pod(initContainers=[{"name": "i"}, {"name": "j"}])
    status = build(pod, [waiting("c", "PodInitializing")], [running("i"), waiting("j")], finished=True)
    assert "terminated" in status["initContainerStatuses"][0]["state"]
    assert "waiting" in status["initContainerStatuses"][1]["state"]
    assert "waiting" in status["containerStatuses"][0]["state"]
    assert status["phase"] == "Failed"


@pytest.mark.parametrize(
    ("of_api", "deleted", "lost"), [("running", True, False), ("ended", True, True), ("", False, True)]
)
def test_an_init_container_that_ended_well_as_the_deleted_pod_was_stopped_has_initialized_nothing(
    of_api: str, deleted: bool, lost: bool
) -> None:
    """TerminatePod asks the status of the pod that it was deleted with, not the newest one."""
    init = {"running": running("i"), "ended": ended("i"), "": waiting("i")}[of_api]
    of_before = {"initContainerStatuses": [init], "containerStatuses": [waiting("c", "PodInitializing")]}
    more = {"metadata": {"deletionTimestamp": T1}} if deleted else {}
    pod = make_pod(initContainers=[{"name": "i"}], status=of_before, **more)
    status = build(pod, [waiting("c", "PodInitializing")], [ended("i")], sandbox=GONE, finished=True)
    assert ("terminated" in status["containerStatuses"][0]["state"]) == lost
    assert status["phase"] == "Failed" and condition(status, "Initialized")[0] == "True"


@pytest.mark.parametrize("initialized", [True, False])
def test_what_was_initialized_when_the_end_began_counts(initialized: bool) -> None:
    pod = make_pod(initContainers=[{"name": "i"}])
    status = build(
        pod, [waiting("c", "PodInitializing")], [ended("i")], sandbox=GONE, finished=True, initialized=initialized
    )
    assert ("terminated" in status["containerStatuses"][0]["state"]) == initialized


def test_a_finished_pod_whose_containers_all_succeeded_succeeded():
    assert build(make_pod(restartPolicy="Always"), [ended("c")], finished=True)["phase"] == "Succeeded"


NEVER_STARTED = ("False", "ContainersNotReady", "containers with unready status: [c]")


def test_a_pod_whose_containers_never_started_ends_with_the_conditions_of_before() -> None:
    """TerminatePod sets the phase and the states, and leaves the conditions."""
    pod = make_pod(metadata={"deletionTimestamp": T1})
    before = build(pod, [waiting("c", "CreateContainerConfigError")])
    status = build(pod, [waiting("c", "ContainerCreating")], sandbox=GONE, finished=True, previous_status=before)
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert condition(status, "Ready") == condition(status, "ContainersReady") == NEVER_STARTED
    assert condition(status, "Initialized") == ("True", "", "")
    assert condition(status, "PodReadyToStartContainers") == ("False", "PodSandboxNotReady", "pod sandbox is not ready")
    for seen in (waiting("c", "ContainerCreating"), status["containerStatuses"][0]):
        assert build(pod, [seen], sandbox=GONE, finished=True, previous_status=status) == status


def test_a_pod_whose_init_container_never_started_stays_uninitialized_at_its_end() -> None:
    pod = make_pod(initContainers=[{"name": "i"}])
    status = build(pod, [waiting("c", "PodInitializing")], [waiting("i", "PodInitializing")], finished=True)
    text = "containers with incomplete status: [i]"
    assert condition(status, "Initialized") == ("False", "ContainersNotInitialized", text)
    assert condition(status, "Ready") == NEVER_STARTED


def test_a_pod_whose_containers_ended_says_how_the_pod_ended() -> None:
    for code, phase, reason in ((0, "Succeeded", "PodCompleted"), (1, "Failed", "PodFailed")):
        status = build(make_pod(), [ended("c", code)], sandbox=GONE, finished=True)
        assert status["phase"] == phase
        assert condition(status, "Ready") == condition(status, "ContainersReady") == ("False", reason, "")


def test_a_finished_pod_is_not_ready_whatever_was_seen_last() -> None:
    """mergePodStatus: no terminal phase with Ready=True."""
    status = build(make_pod(), [running("c")], finished=True)
    assert condition(status, "Ready") == condition(status, "ContainersReady") == ("False", "PodFailed", "")


def test_an_evicted_pod_that_never_started_says_that_it_failed() -> None:
    end = PodEnd("Evicted", "low on memory", disruption=True)
    status = build(make_pod(), [waiting("c", "ContainerCreating")], finished=True, cause=end)
    assert condition(status, "Ready") == ("False", "PodFailed", "")


def test_the_restart_all_condition_is_only_on_pods_with_such_a_rule():
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [5]}}]
    pod = make_pod({"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules})
    busy = SandboxFacts(True, True, ("10.1.0.5",), True, restarting_all=True)
    text = "container exited with restart policy rule"
    assert condition(build(pod, [running("c")], sandbox=busy), "AllContainersRestarting") == (
        "True",
        "RestartAllContainersStarted",
        text,
    )
    status = build(pod, [running("c")])
    assert condition(status, "AllContainersRestarting") == ("False", "", "")
    assert [item["type"] for item in status["conditions"] if "observedGeneration" not in item] == [
        "AllContainersRestarting"
    ]


def test_resize_conditions_are_passed_on_until_the_end():
    resize = ({"type": "PodResizePending", "status": "True", "reason": "Deferred", "observedGeneration": 2},)
    status = build(make_pod(), [running("c")], resize_conditions=resize)
    assert condition(status, "PodResizePending") == ("True", "Deferred", "")
    assert next(c for c in status["conditions"] if c["type"] == "PodResizePending")["observedGeneration"] == 2
    final = build(make_pod(), [running("c")], resize_conditions=resize, finished=True)
    assert "PodResizePending" not in {c["type"] for c in final["conditions"]}


def test_pod_level_resources_are_reported():
    pod = make_pod({"name": "c", "resources": {"requests": {"memory": "1Gi"}}}, resources={"requests": {"cpu": "500m"}})
    status = build(pod, [running("c")])
    assert status["allocatedResources"] == {"cpu": "500m", "memory": "1Gi"}
    assert status["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_the_inputs_are_left_as_they_were():
    statuses = [running("c")]
    build(make_pod(), statuses, finished=True)
    assert "running" in statuses[0]["state"]


def test_a_rejected_pod():
    status = build_rejected_status(make_pod(), "OutOfcpu", "no room", T1)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "OutOfcpu", "Pod was rejected: no room")
    assert status["startTime"] == T1


def test_addresses_are_one_a_family_the_nodes_first():
    ips = ("fd00::1", "10.0.0.1", "10.0.0.2")
    assert sort_pod_ips(ips, ("192.0.2.1",)) == ("10.0.0.1", "fd00::1")
    assert sort_pod_ips(ips, ("fd00::9",)) == ("fd00::1", "10.0.0.1")
    assert PodContext().pod_ips == ()


@pytest.mark.parametrize(("started", "state"), [(True, "terminated"), (False, "waiting")])
def test_a_container_that_never_started_is_lost_where_the_last_sidecar_had_started(started: bool, state: str) -> None:
    pod = make_pod({"name": "c"}, initContainers=[{"name": "side", "restartPolicy": "Always"}])
    before = {"initContainerStatuses": [{**running("side"), "started": started}], "containerStatuses": [waiting("c")]}
    pod["status"] = {**pod["status"], **before}
    stopped = [{**ended("side", 137), "started": False}]
    status = build(pod, [waiting("c")], init=stopped, sandbox=GONE, terminating=True, finished=True)
    assert set(status["containerStatuses"][0]["state"]) == {state}
