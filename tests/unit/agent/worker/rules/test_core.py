"""What happens to a pod next: sandbox, init containers, sidecars, regular and ephemeral containers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.agent.worker.builders import (
    PROBE,
    SANDBOX,
    container,
    deleted,
    exited,
    observed,
    pod,
    record,
    running,
    sidecar,
)
from vk_provider.agent.worker.rules.core import compute_actions
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import Observation, State
from vk_provider.agent.worker.rules.podstate import (
    all_containers_removed,
    remaining_deadline_s,
    sandbox_changed,
    should_restart_all,
    should_restart_container,
)

NO_PROBES = ProbeResults()
MAIN, OTHER = container("main"), container("other")
INIT1, INIT2 = container("init1"), container("init2")
SIDE = sidecar("side")
PROBED = container("main", livenessProbe=PROBE, startupProbe=PROBE)


# -- sandbox ----


def test_a_new_pod_gets_a_sandbox_and_its_containers() -> None:
    actions = compute_actions(pod(MAIN, OTHER), Observation(), NO_PROBES)
    assert actions.create_sandbox and actions.attempt == 0 and actions.sandbox_id == ""
    assert actions.start_regular == (0, 1)


def test_a_new_pod_with_init_containers_starts_only_the_first() -> None:
    actions = compute_actions(pod(MAIN, init=[INIT1, INIT2]), Observation(), NO_PROBES)
    assert (actions.start_init, actions.start_regular) == ((0,), ())


@pytest.mark.parametrize(
    ("change", "sandbox_id"),
    [({"ready": False}, "sb0"), ({"ip": ""}, "sb0"), ({"host_network": True}, "")],
)
def test_an_unusable_sandbox_is_replaced_with_the_next_attempt(change: dict[str, object], sandbox_id: str) -> None:
    seen = observed(running(MAIN), sandboxes=(replace(SANDBOX, **change),))
    actions = compute_actions(pod(MAIN), seen, NO_PROBES)
    assert actions.kill_pod and actions.create_sandbox
    assert (actions.attempt, actions.sandbox_id) == (1, sandbox_id)
    assert actions.start_regular == (0,)


def test_two_ready_sandboxes_are_reconciled() -> None:
    newer = replace(SANDBOX, id="sb1", attempt=1, created_at_ns=2)
    changed, attempt, _, why = sandbox_changed(pod(), observed(sandboxes=(SANDBOX, newer)))
    assert changed and attempt == 2 and why == "multiple pod sandboxes are ready"


def test_a_lost_sandbox_ends_a_pod_that_never_restarts() -> None:
    gone = (replace(SANDBOX, ready=False),)
    actions = compute_actions(pod(MAIN, policy="Never"), observed(exited(MAIN), sandboxes=gone), NO_PROBES)
    assert actions.kill_pod and not actions.create_sandbox


def test_a_lost_sandbox_is_not_replaced_when_every_container_succeeded() -> None:
    gone = (replace(SANDBOX, ready=False),)
    actions = compute_actions(pod(MAIN, policy="OnFailure"), observed(exited(MAIN), sandboxes=gone), NO_PROBES)
    assert actions.kill_pod and not actions.create_sandbox


def test_containers_that_succeeded_stay_finished_in_a_new_sandbox() -> None:
    gone = (replace(SANDBOX, ready=False),)
    seen = observed(exited(MAIN), exited(OTHER, 1), sandboxes=gone)
    actions = compute_actions(pod(MAIN, OTHER, policy="OnFailure"), seen, NO_PROBES)
    assert actions.create_sandbox and actions.start_regular == (1,)


# -- init containers and sidecars ----


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], (0,)),
        ([record(INIT1, State.CREATED)], (0,)),
        ([running(INIT1)], ()),
        ([exited(INIT1)], (1,)),
        ([exited(INIT1, 1)], (0,)),
        ([exited(INIT1), running(INIT2, created=20)], ()),
        ([exited(INIT1), exited(INIT2, 3, created=20)], (1,)),
        ([exited(INIT2, created=20)], ()),
    ],
)
def test_init_containers_run_one_after_the_other(records: list, expected: tuple[int, ...]) -> None:
    actions = compute_actions(pod(MAIN, init=[INIT1, INIT2]), observed(*records), NO_PROBES)
    assert actions.start_init == expected
    finished = bool(records) and records[-1].name == "init2" and records[-1].exit_code == 0
    finished = finished and records[-1].state is State.EXITED
    assert actions.start_regular == ((0,) if finished else ())
    assert not actions.kill_pod


@pytest.mark.parametrize(("policy", "killed"), [("Never", True), ("OnFailure", False), ("Always", False)])
def test_a_failed_init_container_ends_the_pod_unless_it_may_restart(policy: str, killed: bool) -> None:
    actions = compute_actions(pod(MAIN, init=[INIT1], policy=policy), observed(exited(INIT1, 1)), NO_PROBES)
    assert actions.kill_pod is killed
    assert actions.start_init == (() if killed else (0,))


def test_an_init_container_with_its_own_policy_restarts_in_a_never_pod() -> None:
    own = container("init1", restartPolicy="OnFailure")
    actions = compute_actions(pod(MAIN, init=[own], policy="Never"), observed(exited(own, 1)), NO_PROBES)
    assert actions.start_init == (0,) and not actions.kill_pod


def test_finished_init_containers_do_not_run_again_once_a_container_started() -> None:
    actions = compute_actions(pod(MAIN, init=[INIT1, INIT2]), observed(running(MAIN, created=30)), NO_PROBES)
    assert actions.start_init == ()


def test_init_containers_do_not_run_again_once_a_container_was_created() -> None:
    actions = compute_actions(pod(MAIN, init=[INIT1]), observed(record(MAIN, State.CREATED)), NO_PROBES)
    assert (actions.start_init, actions.start_regular) == ((), (0,))


def test_the_next_one_waits_for_a_sidecars_startup_probe() -> None:
    probed = sidecar("side", startupProbe=PROBE)
    wanted = pod(MAIN, init=[probed, INIT2])
    seen = observed(running(probed))
    assert compute_actions(wanted, seen, ProbeResults(startup={"side-10": "unknown"})).start_init == ()
    assert compute_actions(wanted, seen, ProbeResults(startup={"side-10": "success"})).start_init == (1,)


def test_the_regular_containers_start_once_the_last_sidecar_started() -> None:
    actions = compute_actions(pod(MAIN, init=[SIDE]), observed(running(SIDE)), NO_PROBES)
    assert actions.start_regular == (0,) and actions.start_init == ()


def test_a_sidecar_that_ended_is_restarted_beside_running_containers() -> None:
    seen = observed(exited(SIDE, 0), running(MAIN, created=20))
    actions = compute_actions(pod(MAIN, init=[SIDE], policy="Never"), seen, NO_PROBES)
    assert actions.start_init == (0,) and not actions.kill_pod


def test_a_sidecar_that_fails_its_startup_probe_is_killed_and_restarted() -> None:
    probed = sidecar("side", startupProbe=PROBE)
    actions = compute_actions(
        pod(MAIN, init=[probed]), observed(running(probed)), ProbeResults(startup={"side-10": "failure"})
    )
    assert [(k.message, k.reason) for k in actions.kill] == [("Init container side failed startup probe", "startup")]
    assert actions.start_init == (0,)


def test_sidecars_do_not_keep_a_finished_pod_alive() -> None:
    seen = observed(running(SIDE), exited(MAIN, created=20))
    actions = compute_actions(pod(MAIN, init=[SIDE], policy="Never"), seen, NO_PROBES)
    assert actions.kill_pod and actions.start_init == ()


def test_containers_of_an_old_sandbox_do_not_count_as_initialised() -> None:
    newer = replace(SANDBOX, id="sb1", attempt=1, created_at_ns=2)
    seen = observed(exited(MAIN), sandboxes=(replace(SANDBOX, ready=False), newer))
    assert compute_actions(pod(MAIN, init=[INIT1]), seen, NO_PROBES).start_init == (0,)


# -- regular containers ----


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides_after_an_exit(policy: str, exit_code: int, restarts: bool) -> None:
    wanted = pod(MAIN, OTHER, policy=policy)
    actions = compute_actions(wanted, observed(exited(MAIN, exit_code), running(OTHER)), NO_PROBES)
    assert actions.start_regular == ((0,) if restarts else ())
    assert should_restart_container(wanted, MAIN, observed(exited(MAIN, exit_code))) is restarts


def test_a_containers_own_policy_and_rules_win() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    own = container("main", restartPolicy="Never", restartPolicyRules=[rule])
    wanted = pod(own)
    assert should_restart_container(wanted, own, observed(exited(own, 42)))
    assert not should_restart_container(wanted, own, observed(exited(own, 1)))


def test_nothing_is_restarted_once_the_pod_is_deleted() -> None:
    actions = compute_actions(deleted(pod(MAIN, OTHER)), observed(exited(MAIN), running(OTHER)), NO_PROBES)
    assert actions.start_regular == ()


def test_the_pod_is_killed_when_nothing_runs_and_nothing_is_to_start() -> None:
    assert compute_actions(pod(MAIN, policy="Never"), observed(exited(MAIN)), NO_PROBES).kill_pod


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_changed_image_replaces_the_container_whatever_the_policy(policy: str) -> None:
    changed = container("main", image="busybox:2")
    actions = compute_actions(pod(changed, policy=policy), observed(running(MAIN)), NO_PROBES)
    assert actions.kill[0].message == "Container main definition changed, will be restarted"
    assert actions.start_regular == (0,)


@pytest.mark.parametrize(
    ("policy", "message", "restarts"),
    [
        ("Always", "Container main failed liveness probe, will be restarted", True),
        ("Never", "Container main failed liveness probe", False),
    ],
)
def test_a_failed_liveness_probe_kills(policy: str, message: str, restarts: bool) -> None:
    probes = ProbeResults(liveness={"main-10": "failure"}, startup={"main-10": "success"})
    actions = compute_actions(pod(PROBED, OTHER, policy=policy), observed(running(PROBED), running(OTHER)), probes)
    assert [(k.message, k.reason) for k in actions.kill] == [(message, "liveness")]
    assert actions.start_regular == ((0,) if restarts else ())


def test_a_failed_startup_probe_kills() -> None:
    actions = compute_actions(pod(PROBED), observed(running(PROBED)), ProbeResults(startup={"main-10": "failure"}))
    assert actions.kill[0].message == "Container main failed startup probe, will be restarted"
    assert actions.kill[0].reason == "startup"


def test_results_of_an_older_container_do_not_count() -> None:
    probes = ProbeResults(liveness={"main-1": "failure"})
    assert compute_actions(pod(PROBED), observed(running(PROBED)), probes).kill == ()


def test_a_container_in_an_unknown_state_is_killed_before_its_restart() -> None:
    actions = compute_actions(pod(MAIN), observed(record(MAIN, State.UNKNOWN)), NO_PROBES)
    assert actions.kill[0].message == 'Container is in "unknown" state, try killing it before restart'
    assert actions.start_regular == (0,)


def test_a_resize_that_needs_a_restart_restarts() -> None:
    actions = compute_actions(pod(MAIN), observed(running(MAIN)), NO_PROBES, resize_restarts=frozenset({"main"}))
    assert actions.kill[0].message == "Container main resize requires restart"
    assert actions.start_regular == (0,)


# -- ephemeral containers, RestartAllContainers, deadline ----


def test_ephemeral_containers_start_once_and_before_initialisation_ends() -> None:
    debug = container("debug")
    wanted = pod(MAIN, init=[INIT1], ephemeralContainers=[debug])
    assert compute_actions(wanted, observed(running(INIT1)), NO_PROBES).start_ephemeral == (0,)
    assert compute_actions(wanted, observed(running(INIT1), exited(debug)), NO_PROBES).start_ephemeral == ()


def test_restart_all_containers_removes_everything_and_its_cause_last() -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [9]}}
    cause = container("main", restartPolicy="Never", restartPolicyRules=[rule])
    wanted = pod(cause, OTHER, init=[INIT1])
    seen = observed(exited(INIT1), exited(cause, 9, created=20), running(OTHER, created=21))
    assert should_restart_all(wanted, seen)
    actions = compute_actions(wanted, seen, NO_PROBES, restart_all=True)
    assert [(r.name, r.running) for r in actions.reset] == [("other", True), ("init1", False), ("main", False)]
    assert not actions.kill and not actions.start_regular
    assert all_containers_removed(wanted, observed()) and not all_containers_removed(wanted, seen)


def test_the_deadline_counts_from_the_start_time() -> None:
    limited = pod(MAIN, activeDeadlineSeconds=10)
    assert remaining_deadline_s(limited, 100.0, 104.0) == 6.0
    assert remaining_deadline_s(limited, 100.0, 111.0) == -1.0
    assert remaining_deadline_s(pod(MAIN), 100.0, 111.0) is None
