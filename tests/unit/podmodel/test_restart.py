import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.podmodel.restart import RestartBackoff, backoff_s, crash_loop_message, should_restart


def decide(exit_code, policy="Always", own=None, rules=None, is_init=False, deleted=False, reason="Error"):
    container = {"name": "c"}
    if own:
        container["restartPolicy"] = own
    if rules:
        container["restartPolicyRules"] = rules
    metadata = {"deletionTimestamp": "2025-01-01T00:00:00Z"} if deleted else {}
    pod = make_pod(container, metadata=metadata, restartPolicy=policy)
    decision = should_restart(pod, container, {"exitCode": exit_code, "reason": reason}, is_init)
    return decision.restart, decision.all_containers


def rule(action, operator, *values):
    return {"action": action, "exitCodes": {"operator": operator, "values": list(values)}}


@pytest.mark.parametrize(
    ("policy", "exit_code", "restart"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_pods_policy_decides_by_the_exit_code(policy, exit_code, restart):
    assert decide(exit_code, policy) == (restart, False)
    assert decide(exit_code, "Never", own=policy) == (restart, False)


def test_an_init_container_that_succeeded_is_done_but_a_sidecar_is_not():
    assert decide(0, is_init=True) == (False, False)
    assert decide(1, is_init=True) == (True, False)
    assert decide(1, "Never", is_init=True) == (False, False)
    assert decide(0, "Never", own="Always", is_init=True) == (True, False)


def test_rules_come_before_the_containers_own_policy():
    rules = [rule("Restart", "In", 42), rule("RestartAllContainers", "NotIn", 0, 1)]
    assert decide(42, own="Never", rules=rules) == (True, False)
    assert decide(7, own="Never", rules=rules) == (True, True)
    assert decide(1, own="Never", rules=rules) == (False, False)


def test_nothing_restarts_once_the_pod_is_being_deleted():
    assert decide(1, deleted=True) == (False, False)


def test_a_container_removed_to_restart_all_comes_back_whatever_its_policy():
    assert decide(137, "Never", reason="RestartingAllContainers") == (True, False)


def test_the_first_restart_is_immediate_then_delays_double_up_to_five_minutes():
    assert [backoff_s(index) for index in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_back_off_counts_from_the_exit_and_grows_with_each_restart():
    backoff, now = RestartBackoff(), 1000.0
    waits = []
    for _ in range(4):
        finished = now
        wait = backoff.remaining_s(finished, now)
        waits.append(wait)
        now += wait
        backoff = backoff.next(finished, now)
        now += 1
    assert waits == [0, 10, 20, 40]
    assert backoff.remaining_s(now, now + 79) == 1
    assert backoff.remaining_s(now, now + 81) == 0


def test_back_off_is_forgotten_after_ten_good_minutes():
    backoff = RestartBackoff(delay_s=160, updated_at=0)
    assert backoff.remaining_s(601, 601) == 0
    assert backoff.next(601, 601).delay_s == 10
    assert backoff.remaining_s(599, 600) == 159


def test_the_crash_loop_message_is_the_kubelets():
    pod = make_pod()
    assert crash_loop_message(pod, "c", 10) == "back-off 10s restarting failed container=c pod=web_shop(u-1)"
    assert crash_loop_message(pod, "c", 160).startswith("back-off 2m40s ")
    assert crash_loop_message(pod, "c", 300).startswith("back-off 5m0s ")
