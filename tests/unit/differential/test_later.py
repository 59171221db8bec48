"""What a kubelet says or does later, and only that, is told apart."""

from __future__ import annotations

import pytest

from tests.differential.compare import compare
from tests.differential.history import History
from tests.differential.known import unexplained
from tests.unit.differential.histories import OURS, THEIRS, container, history, pod, running


def kinds(*sides: History) -> set[str]:
    return {difference.kind for difference in compare(*sides)}


def left(*sides: History) -> set[str]:
    return {difference.kind for difference in unexplained(compare(*sides))}


def waits(uid: str, reason: str, message: str) -> dict[str, object]:
    return pod(uid, "10.0.0.9", "Running", container(waiting={"reason": reason, "message": message}))


@pytest.mark.parametrize("said", [True, False])
def test_a_reason_of_the_pass_before_is_known_if_it_was_said_here(said: bool) -> None:
    before = ("CreateContainerError", "no such profile") if said else ("CreateContainerError", "another profile")
    now = waits("u-1", "CreateContainerConfigError", "no secret")
    ours = history(OURS, (0, pod("u-1")), (3, waits("u-1", *before)), (12, now))
    theirs = history(THEIRS, (0, pod("u-2")), (3, waits("u-2", "CreateContainerError", "no such profile")))
    statuses = {kind for kind in left(ours, theirs) if kind.startswith("status.")}
    assert bool(statuses) != said
    assert any("(of the pass before)" in kind for kind in kinds(ours, theirs)) == said


@pytest.mark.parametrize("code", [1, 2])
def test_an_end_that_is_said_here_as_the_last_state_only_is_known(code: int) -> None:
    ended = {"reason": "Error", "exitCode": 1}
    waiting = {**container(waiting={"reason": "CrashLoopBackOff"}), "lastState": {"terminated": ended}}
    ours = history(OURS, (0, pod("u-1")), (5, pod("u-1", "10.0.0.9", "Running", waiting)))
    shown = container(terminated={"reason": "Error", "exitCode": code})
    later = {**waiting, "lastState": {"terminated": {**ended, "exitCode": code}}}
    theirs = history(
        THEIRS,
        (0, pod("u-2")),
        (5, pod("u-2", "10.0.0.9", "Running", shown)),
        (15, pod("u-2", "10.0.0.9", "Running", later)),
    )
    lasting = {kind for kind in left(ours, theirs) if kind.startswith("lasting")}
    assert lasting == (set() if code == 1 else {"lasting only kubelet: container terminated Error N"})


def _deleted_twice(namespace: str, uid: str, stopped: float, held: bool) -> History:
    ended = pod(uid, "10.0.0.9", "Failed", container(terminated={"exitCode": 137, "reason": "Error"}))
    side = history(namespace, (0, pod(uid)), (stopped, ended), end=5.0)
    side.answers = {"0 delete": {"status": 200}, "1 delete": {"status": 200}}
    side.asked = {"0 delete": 5.0, "1 delete": 6.0}
    side.snaps = {"end": 20.0}
    side.gone = 40.0 if held else stopped
    side.closed = 42.0
    return side


@pytest.mark.parametrize("held", [True, False])
def test_a_kubelet_that_waits_out_the_first_grace_is_one_known_difference(held: bool) -> None:
    ours, theirs = _deleted_twice(OURS, "u-1", 7.0, held), _deleted_twice(THEIRS, "u-2", 30.0, held)
    assert kinds(ours, theirs) == {"ending after a second deletion: slower kubelet"}
    assert not left(ours, theirs)
    assert left(theirs, ours)


def test_the_last_status_of_a_pod_that_is_taken_away_at_once_is_chance() -> None:
    ours, theirs = (
        history(namespace, (0, pod(uid)), (20.1, pod(uid, "10.0.0.9", phase, state)))
        for namespace, uid, phase, state in (
            (OURS, "u-1", "Failed", container(terminated={"exitCode": 137})),
            (THEIRS, "u-2", "Running", running()),
        )
    )
    ours.gone = theirs.gone = 20.5
    assert any(kind.startswith("ending: phase") for kind in kinds(ours, theirs))
    theirs.forced = 20.0
    assert not any(kind.startswith("ending:") for kind in kinds(ours, theirs))


@pytest.mark.parametrize("put_back", [True, False])
def test_a_waiting_pod_that_a_foreign_phase_has_ended_is_one_known_difference(put_back: bool) -> None:
    waiting = container(waiting={"reason": "CreateContainerConfigError"})
    ours, theirs = (
        history(
            namespace,
            (0, pod(uid, "10.0.0.9", "Pending", waiting)),
            (4, pod(uid, "10.0.0.9", "Failed", waiting)),
            (6, pod(uid, "10.0.0.9", "Pending" if back else "Failed", waiting)),
        )
        for namespace, uid, back in ((OURS, "u-1", True), (THEIRS, "u-2", put_back))
    )
    expected = set() if put_back else {"ended by a phase that another has set (only kubelet)"}
    assert kinds(ours, theirs) == expected and not left(ours, theirs)
    assert bool(left(theirs, ours)) != put_back


def patched(side: History) -> History:
    """Its case has a patch."""
    side.asked = {"1 patch": 3.5}
    return side


@pytest.mark.parametrize("keeper", ["kubelet", "here", "both"])
def test_words_of_another_that_only_a_kubelet_keeps_are_known(keeper: str) -> None:
    def side(namespace: str, uid: str, keeps: bool) -> History:
        words = {"reason": "Other", "message": "by another"}
        last = pod(uid, "10.0.0.9", "Running", running(), **(words if keeps else {}))
        first, said = pod(uid), pod(uid, "10.0.0.9", "Running", running(), **words)
        return patched(history(namespace, (0, first), (4, said), (5, last)))

    ours, theirs = side(OURS, "u-1", keeper != "kubelet"), side(THEIRS, "u-2", keeper != "here")
    assert bool(kinds(ours, theirs)) == (keeper != "both")
    assert bool(left(ours, theirs)) == (keeper == "here")
    ours.asked = theirs.asked = {}
    assert bool(left(ours, theirs)) == (keeper != "both"), "nobody else has written: it is a loss of own words"


@pytest.mark.parametrize("keeper", ["kubelet", "here"])
def test_a_generation_of_another_that_only_a_kubelet_leaves_is_known(keeper: str) -> None:
    def conditions(generation: int) -> dict[str, list[dict[str, object]]]:
        return {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": generation}]}

    def side(namespace: str, uid: str, keeps: bool) -> History:
        versions = [(float(at), pod(uid, **conditions(n))) for at, n in ((0, 1), (4, 77), (5, 77 if keeps else 1))]
        return patched(history(namespace, *versions))

    ours, theirs = side(OURS, "u-1", keeper == "here"), side(THEIRS, "u-2", keeper == "kubelet")
    assert kinds(ours, theirs)
    assert bool(left(ours, theirs)) == (keeper == "here")


@pytest.mark.parametrize("backs_off", [True, False])
def test_a_failed_pull_that_is_backed_off_here_at_once_is_known(backs_off: bool) -> None:
    said = "ImagePullBackOff" if backs_off else "InvalidImageName"
    ours = history(OURS, (0, pod("u-1")), (3, waits("u-1", said, "")), (19, pod("u-1")))
    theirs = history(
        THEIRS,
        (0, pod("u-2")),
        (3, waits("u-2", "ErrImagePull", "")),
        (9, waits("u-2", said, "")),
        (19, pod("u-2")),
    )
    assert bool(left(ours, theirs)) != backs_off


@pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded"])
def test_an_end_that_a_kubelet_has_lost_with_an_eviction_is_left_out(reason: str) -> None:
    there = {**running(), "containerID": "containerd://a"}
    ended = {**container(terminated={"reason": "Error", "exitCode": 137}), "containerID": "containerd://a"}
    lost = container(terminated={"reason": "ContainerStatusUnknown", "exitCode": 137})
    ours, theirs = (
        history(
            namespace,
            (0, pod(uid, "10.0.0.9", "Running", there)),
            (6, pod(uid, "10.0.0.9", "Failed", last, reason=reason)),
        )
        for namespace, uid, last in ((OURS, "u-1", ended), (THEIRS, "u-2", lost))
    )
    assert (kinds(ours, theirs) == set()) == (reason == "Evicted")
    assert kinds(theirs, ours) != set()
    theirs.versions[1].pod["status"]["phase"] = "Succeeded"
    assert "status.phase: Failed / Succeeded" in kinds(ours, theirs)
