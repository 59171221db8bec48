"""What counts as a difference, and under which name."""

import pytest

from tests.differential.compare import compare, nearest
from tests.differential.difference import generalise
from tests.differential.history import History
from tests.unit.differential.histories import OURS, THEIRS, add_event, container, history, pod, running


def kinds(*sides: object) -> set[str]:
    return {difference.kind for difference in compare(*sides)}


def test_pods_that_differ_in_identity_alone_are_equal() -> None:
    ours = history(OURS, (0, pod("u-1", "10.0.0.1")))
    theirs = history(THEIRS, (3, pod("u-2", "10.1.1.1")))
    add_event(ours, "Killing", "pod x_diff-v-00(u-1) at 10.0.0.1 on nodeless")
    add_event(theirs, "Killing", "pod x_diff-k-00(u-2) at 10.1.1.1 on kubelet")
    assert kinds(ours, theirs) == set()


def test_a_status_that_differs_at_the_end_is_named_by_its_path_without_the_containers_name() -> None:
    ours = history(OURS, (0, pod("u-1", "10.0.0.1", "Running", container(terminated={"exitCode": 3}))))
    theirs = history(THEIRS, (0, pod("u-2", "10.0.0.1", "Running", container(terminated={"exitCode": 4}))))
    assert "status.container.state.terminated.exitCode: N / N" in kinds(ours, theirs)


def test_a_change_that_comes_a_second_later_on_one_side_is_none() -> None:
    before, after = running(), container(terminated={"exitCode": 0, "reason": "Completed"})
    ours = history(OURS, (0, pod("u-1")), (19, pod("u-1", "10.0.0.9", "Running", after)))
    theirs = history(THEIRS, (0, pod("u-2", "10.0.0.9", "Running", before)))
    theirs.versions += [version for version in history(THEIRS, (21, pod("u-2", "10.0.0.9", "Running", after))).versions]
    theirs.deleted = ours.deleted = 25.0
    theirs.gone = ours.gone = 26.0
    assert kinds(ours, theirs) == set()


def test_what_one_side_shows_for_long_and_the_other_never_is_a_difference_though_the_end_is_equal() -> None:
    waiting = container(waiting={"reason": "CrashLoopBackOff"})
    ours = history(OURS, (0, pod("u-1", "10.0.0.9", "Running", waiting)), (9, pod("u-1")))
    theirs = history(THEIRS, (0, pod("u-2")))
    assert kinds(ours, theirs) == {"lasting only here: container waiting CrashLoopBackOff"}
    assert kinds(theirs, ours) == {"lasting only kubelet: container waiting CrashLoopBackOff"}


def test_answers_are_compared_word_by_word_and_a_message_is_named_by_where_it_departs() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    ours.answers = {"0 logs": {"status": 400, "body": "container x is odd"}}
    theirs.answers = {"0 logs": {"status": 404, "body": "container x is even"}}
    found = kinds(ours, theirs)
    assert "answer logs.status" in found
    assert any(kind.startswith("answer logs.body: ") and "odd" in kind and "even" in kind for kind in found)


@pytest.mark.parametrize("asked", [4.5, 8.0])
@pytest.mark.parametrize("verb", ["exec", "patch"])
def test_a_question_that_meets_the_end_of_a_container_is_answered_by_chance(verb: str, asked: float) -> None:
    def ending(namespace: str, uid: str, at: float, answer: str) -> History:
        last = pod(uid, "10.0.0.9", "Succeeded", container(terminated={"exitCode": 0}))
        made = history(namespace, (0, pod(uid)), (at, last))
        made.answers, made.asked = {f"0 {verb}": {"code": answer}}, {f"0 {verb}": asked}
        return made

    found = {each.kind for each in compare(ending(OURS, "u-1", 4, "0"), ending(THEIRS, "u-2", 5, "1"))}
    by_chance = verb == "exec" and asked == 4.5
    assert found == (set() if by_chance else {f"answer {verb}.code"})


def test_a_pod_that_takes_much_longer_to_go_is_a_difference() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    theirs.gone = 40.0
    assert kinds(ours, theirs) == {"ending: slower kubelet"}


def test_a_pod_that_never_goes_on_one_side_is_a_difference() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    ours.gone = None
    assert "ending: gone" in kinds(ours, theirs)


def test_a_pod_that_was_deleted_at_the_first_moment_of_its_recording_has_an_end_as_any_other() -> None:
    ours, theirs = history(OURS, (0, pod("u-1")), end=7.0), history(THEIRS, (0, pod("u-2")), end=7.0)
    ours.deleted, theirs.deleted = 0.2, 0.0
    assert kinds(ours, theirs) == set()
    theirs.gone = 20.0
    assert kinds(ours, theirs) == {"ending: slower kubelet"}


def test_another_exit_code_at_the_end_is_a_difference() -> None:
    last = [container(terminated={"exitCode": code, "reason": "Error"}) for code in (143, 137)]
    ours = history(OURS, (0, pod("u-1")), (20.5, pod("u-1", "10.0.0.9", "Failed", last[0])))
    theirs = history(THEIRS, (0, pod("u-2")), (20.5, pod("u-2", "10.0.0.9", "Failed", last[1])))
    assert "ending: container: terminated Error 143 / terminated Error 137" in kinds(ours, theirs)


def test_of_many_statuses_the_two_that_differ_least_are_named() -> None:
    found = nearest([{"a": 1, "b": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 3}, {"a": 9, "b": 9}], "s")
    assert [difference.kind for difference in found] == ["s.b: N / N"]
    assert nearest([{"a": 1}, {"a": 2}], [{"a": 3}, {"a": 2}], "s") == []


def test_a_kind_is_the_same_for_every_container_of_the_grammar() -> None:
    assert generalise("Stopping container main") == generalise("Stopping container side0")


def test_what_lasts_while_a_finalizer_holds_the_pod_is_compared_too() -> None:
    def ending(namespace: str, uid: str, reason: str) -> History:
        conditions = [{"type": "Ready", "status": "False", "reason": reason}]
        made = history(
            namespace, (0, pod(uid)), (20.5, pod(uid, "10.0.0.9", "Failed", running(), conditions=conditions))
        )
        made.gone, made.closed = 30.0, 31.0
        return made

    found = kinds(ending(OURS, "u-1", "PodFailed"), ending(THEIRS, "u-2", "ContainersNotReady"))
    assert "lasting while ending only here: condition Ready False PodFailed" in found
    assert "lasting while ending only kubelet: condition Ready False ContainersNotReady" in found


def test_the_first_status_of_the_node_has_conditions_that_the_kubelet_shows_before_a_container_runs() -> None:
    def starting(namespace: str, uid: str, *reasons: str) -> History:
        waiting = container(waiting={"reason": "ContainerCreating"})
        versions = []
        for number, reason in enumerate(reasons):
            conditions = [{"type": "PodReadyToStartContainers", "status": "False", "reason": reason}]
            if namespace == THEIRS:  # of another writer, who may come first or not
                conditions.append({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"})
            first = pod(uid, "10.0.0.9", "Pending", waiting, startTime="t", conditions=conditions)
            versions.append((number * 0.1, first))
        return history(namespace, *versions, (1.0, pod(uid, startTime="t")))

    ours, theirs = starting(OURS, "u-1", "", "NoSandbox"), starting(THEIRS, "u-2", "NoSandbox")
    assert kinds(ours, theirs) == {"first status.conditions.PodReadyToStartContainers.reason: - / NoSandbox"}
    assert kinds(starting(OURS, "u-1", "NoSandbox"), starting(THEIRS, "u-2", "Earlier", "NoSandbox")) == set()


def test_a_back_off_that_the_kubelet_has_not_said_yet_is_no_difference_at_a_moment() -> None:
    end = {"exitCode": 1, "reason": "Error"}
    waiting = {**container(waiting={"reason": "CrashLoopBackOff"}), "lastState": {"terminated": end}, "restartCount": 2}
    ended = {**container(terminated=end), "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 1}
    ours = history(OURS, (0, pod("u-1")), (9, pod("u-1", "10.0.0.9", "Running", waiting)))
    theirs = history(THEIRS, (0, pod("u-2")), (9, pod("u-2", "10.0.0.9", "Running", ended)))
    assert not {kind for kind in kinds(ours, theirs) if kind.startswith("status.")}
    other = {**ended, "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}
    theirs = history(THEIRS, (0, pod("u-2")), (9, pod("u-2", "10.0.0.9", "Running", other)))
    assert "status.container.state.terminated.exitCode: N / N" in kinds(ours, theirs)


def test_the_first_restart_counts_and_one_more_in_a_loop_does_not() -> None:
    def restarted(namespace: str, uid: str, count: int) -> History:
        return history(namespace, (0, pod(uid, "10.0.0.9", "Running", {**running(), "restartCount": count})))

    assert kinds(restarted(OURS, "u-1", 3), restarted(THEIRS, "u-2", 2)) == set()
    assert kinds(restarted(OURS, "u-1", 1), restarted(THEIRS, "u-2", 0)) == {"status.container.restartCount"}
    assert kinds(restarted(OURS, "u-1", 4), restarted(THEIRS, "u-2", 2)) == {"status.container.restartCount"}


@pytest.mark.parametrize("key", ["containerStatuses", "ephemeralContainerStatuses"])
@pytest.mark.parametrize("reason", ["PodInitializing", "ContainerCreating"])
def test_why_a_container_does_not_start_is_no_difference_before_the_kubelet_has_said_it(key: str, reason: str) -> None:
    init = {"initContainerStatuses": [container("init", terminated={"exitCode": 0})]} if "Pod" in reason else {}
    why = {"reason": "CreateContainerConfigError", "message": "unable to find target container main"}
    said, unsaid = container("it", waiting=why), container("it", waiting={"reason": reason})
    ours = history(OURS, (0, pod("u-1", **init, **{key: [said]})))
    theirs = history(THEIRS, (0, pod("u-2", **init, **{key: [unsaid]})))
    assert not {kind for kind in kinds(ours, theirs) if kind.startswith("status.")}
    other = container("it", waiting={"reason": "Other"})
    theirs = history(THEIRS, (0, pod("u-2", **init, **{key: [other]})))
    assert any(kind.endswith("waiting.reason: " + reason + " / Other") for kind in kinds(ours, theirs))


def test_a_limit_of_the_pod_that_nobody_has_set_is_no_difference_and_another_one_is() -> None:
    def limited(namespace: str, uid: str, memory: str) -> History:
        return history(namespace, (0, pod(uid, resources={"limits": {"memory": memory}})))

    ours = limited(OURS, "u-1", "32Mi")
    assert kinds(ours, limited(THEIRS, "u-2", "9007199254740988Ki")) == set()
    assert kinds(ours, limited(THEIRS, "u-2", "16Mi")) == {"status.resources.limits.memory: NMi / NMi"}


def test_a_second_deletion_names_the_kind_of_a_slow_end() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    theirs.gone = 50.0
    assert kinds(ours, theirs) == {"ending: slower kubelet"}
    for side in (ours, theirs):
        side.answers = {"0 delete": {"status": 200}, "1 delete": {"status": 200}}
    assert kinds(ours, theirs) == {"ending after a second deletion: slower kubelet"}
    for side in (ours, theirs):
        side.answers = {"0 delete": {"status": 200}, "1 delete": {"status": 404, "message": "gone"}}
    assert kinds(ours, theirs) == {"ending: slower kubelet"}


def test_a_pod_that_ends_by_a_phase_of_another_writer_differs_in_that_alone() -> None:
    ended = container(terminated={"exitCode": 137})
    ours = history(OURS, (0, pod("u-1")), (4, pod("u-1", phase="Failed")), (5, pod("u-1")))
    versions = ((0, pod("u-2")), (4, pod("u-2", phase="Failed")), (6, pod("u-2", "10.0.0.9", "Failed", ended)))
    assert kinds(ours, history(THEIRS, *versions)) == {"ended by a phase that another has set (only kubelet)"}
    by_itself = history(THEIRS, (0, pod("u-2")), (6, pod("u-2", "10.0.0.9", "Failed", ended)))
    assert "ending: phase: Running / Failed" in kinds(ours, by_itself)


def test_a_pod_that_is_refused_on_one_side_differs_in_that_alone() -> None:
    said = "Pod was rejected: spec.containers[0].x is not supported by this node"
    ours = history(OURS, (0, pod("u-1", phase="Failed", reason="PodFeatureUnsupported", message=said)))
    theirs = history(THEIRS, (0, pod("u-2")))
    assert kinds(ours, theirs) == {"refused here: Pod was rejected: spec.containers[N].x is not supported by this node"}
    both = history(THEIRS, (0, pod("u-2", phase="Failed", reason="PodFeatureUnsupported", message=said)))
    assert kinds(ours, both) == set()
