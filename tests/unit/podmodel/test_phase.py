import pytest

from tests.unit.podmodel.builders import ended, make_pod, running, waiting
from vk_provider.podmodel.phase import compute_phase

A, B = {"name": "a"}, {"name": "b"}
SIDECAR = {"name": "s", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("policy", "statuses", "terminal", "phase"),
    [
        ("Always", [], False, "Pending"),
        ("Always", [running("a"), running("b")], False, "Running"),
        ("Always", [ended("a"), ended("b")], False, "Running"),
        ("Always", [ended("a"), ended("b")], True, "Succeeded"),
        ("Always", [ended("a"), ended("b", 1)], True, "Failed"),
        ("Always", [running("a"), ended("b")], False, "Running"),
        ("Always", [running("a")], False, "Pending"),
        ("Always", [running("a"), waiting("b")], False, "Pending"),
        ("Always", [running("a"), waiting("b", last_exit=1)], False, "Running"),
        ("Always", [waiting("a", last_exit=1), waiting("b", last_exit=0)], False, "Running"),
        ("Never", [ended("a"), ended("b")], False, "Succeeded"),
        ("Never", [ended("a"), ended("b", 3)], False, "Failed"),
        ("Never", [running("a"), ended("b", 3)], False, "Running"),
        ("Never", [waiting("a", last_exit=0), ended("b")], False, "Failed"),
        ("OnFailure", [ended("a"), ended("b")], False, "Succeeded"),
        ("OnFailure", [ended("a"), ended("b", 1)], False, "Running"),
        ("OnFailure", [ended("a", 1), ended("b", 1)], True, "Failed"),
        ("Never", [{"name": "a", "state": {}}, ended("b")], False, "Pending"),
    ],
)
def test_phase_of_regular_containers(policy, statuses, terminal, phase):
    assert compute_phase(make_pod(A, B, restartPolicy=policy), statuses, terminal, False) == phase


@pytest.mark.parametrize(
    ("policy", "init", "regular", "phase"),
    [
        ("Always", None, [], "Pending"),
        ("Always", running("i"), [], "Pending"),
        ("Always", ended("i"), [waiting("a")], "Pending"),
        ("Always", ended("i"), [running("a")], "Running"),
        ("Always", ended("i", 1), [waiting("a")], "Pending"),
        ("Never", ended("i", 1), [waiting("a")], "Failed"),
        ("Never", waiting("i", last_exit=1), [waiting("a")], "Failed"),
        ("Always", waiting("i", last_exit=1), [waiting("a")], "Pending"),
        ("Never", waiting("i"), [waiting("a")], "Pending"),
    ],
)
def test_phase_with_an_init_container(policy, init, regular, phase):
    pod = make_pod(A, initContainers=[{"name": "i"}], restartPolicy=policy)
    assert compute_phase(pod, [*([init] if init else []), *regular], False, False) == phase


@pytest.mark.parametrize(
    ("sidecar", "regular", "terminal", "initialized", "phase"),
    [
        (None, [], False, False, "Pending"),
        (running("s", started=False), [waiting("a")], False, False, "Pending"),
        (running("s"), [running("a")], False, True, "Running"),
        (running("s", started=False), [running("a")], False, True, "Running"),
        (running("s", started=False), [running("a")], False, False, "Pending"),
        (running("s"), [ended("a")], False, True, "Running"),
        (ended("s", 137), [ended("a")], False, True, "Succeeded"),
        (waiting("s", last_exit=1), [running("a")], False, True, "Running"),
        (waiting("s"), [running("a")], False, True, "Pending"),
        (ended("s", 137), [ended("a", 1)], True, True, "Failed"),
    ],
)
def test_phase_with_a_sidecar(sidecar, regular, terminal, initialized, phase):
    pod = make_pod(A, initContainers=[SIDECAR], restartPolicy="Never")
    assert compute_phase(pod, [*([sidecar] if sidecar else []), *regular], terminal, initialized) == phase


@pytest.mark.parametrize(
    ("own", "policy", "exit_code", "phase"),
    [
        ("Never", "Always", 1, "Failed"),
        ("OnFailure", "Always", 1, "Running"),
        ("OnFailure", "Always", 0, "Succeeded"),
        ("Always", "Never", 1, "Running"),
    ],
)
def test_a_containers_own_restart_policy_counts(own, policy, exit_code, phase):
    pod = make_pod({"name": "a", "restartPolicy": own}, restartPolicy=policy)
    assert compute_phase(pod, [ended("a", exit_code)], False, True) == phase


def test_containers_removed_to_restart_all_keep_the_pod_going():
    lost = waiting("a", "RestartingAllContainers", last_exit=137)
    lost["lastState"]["terminated"]["reason"] = "RestartingAllContainers"
    assert compute_phase(make_pod(A, restartPolicy="Never"), [lost], False, True) == "Running"
