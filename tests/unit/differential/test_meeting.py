"""What meets the end of a pod is chance, and only what does."""

from __future__ import annotations

import pytest

from tests.differential.compare import compare
from tests.differential.history import History, until
from tests.differential.known import unexplained
from tests.unit.differential.histories import OURS, THEIRS, add_event, container, history, pod, running
from vk_provider.jsontypes import Json

ENDED: Json = container(terminated={"exitCode": 137, "reason": "Error"})
LATE = "Pod was active on the node longer than the specified deadline"


def kinds(*sides: History) -> set[str]:
    return {difference.kind for difference in compare(*sides)}


def failed(uid: str, **more: str) -> Json:
    return pod(uid, "10.0.0.9", "Failed", ENDED, **more)


@pytest.mark.parametrize(("at", "is_chance"), [(7.0, True), (12.0, False)])
def test_a_deadline_that_passes_as_the_pod_ends_is_chance(at: float, is_chance: bool) -> None:
    ours = history(OURS, (0, pod("u-1")), (6, failed("u-1")))
    theirs = history(THEIRS, (0, pod("u-2")), (6, failed("u-2")), (at, failed("u-2", reason="DeadlineExceeded")))
    ours.deleted = theirs.deleted = 4.0
    add_event(theirs, "DeadlineExceeded", LATE, at=at)
    assert (kinds(ours, theirs) == set()) == is_chance
    assert (kinds(theirs, ours) == set()) == is_chance


def test_a_deadline_that_one_pod_misses_while_the_other_runs_on_is_a_difference() -> None:
    ours = history(OURS, (0, pod("u-1")), (20.5, failed("u-1")))
    theirs = history(THEIRS, (0, pod("u-2")), (6, failed("u-2", reason="DeadlineExceeded")))
    add_event(theirs, "DeadlineExceeded", LATE, at=6)
    assert any("DeadlineExceeded" in kind for kind in kinds(ours, theirs))


def test_a_deadline_before_the_kubelet_has_measured_a_volume_is_chance() -> None:
    message = 'Usage of EmptyDir volume "small" exceeds the limit "100Ki". '
    ours = history(OURS, (0, pod("u-1")), (6, failed("u-1", reason="Evicted", message=message)))
    theirs = history(THEIRS, (0, pod("u-2")), (12, failed("u-2", reason="DeadlineExceeded", message=LATE)))
    add_event(ours, "Evicted", message, kind="Warning", at=6)
    add_event(theirs, "DeadlineExceeded", LATE, at=12)
    assert kinds(ours, theirs) == set()
    assert kinds(theirs, ours) != set()


def changed(side: History, at: float, wait: float = 0.01) -> History:
    """The spec is changed at that moment; later versions have the new generation."""
    side.asked, side.answers = {"0 patch": at}, {"0 patch": {"status": 200}}
    for item in side.versions:
        item.pod["metadata"]["generation"] = 1 if item.at < at + wait else 2
    return side


@pytest.mark.parametrize(("asked", "is_chance"), [(6.0, True), (3.0, False), (9.0, False)])
def test_a_change_that_meets_the_end_is_shown_by_chance(asked: float, is_chance: bool) -> None:
    def side(namespace: str, uid: str, generation: int) -> History:
        last = {**failed(uid, observedGeneration=str(generation))}
        made = history(namespace, (0, pod(uid)), (6, failed(uid)), (max(asked, 6) + 0.1, last))
        return changed(made, asked, -0.05 if asked < 6 else 0.05)

    assert (kinds(side(OURS, "u-1", 1), side(THEIRS, "u-2", 2)) == set()) == is_chance


def test_what_a_kubelet_starts_after_its_deletion_is_left_out_with_what_follows() -> None:
    again = {**running(), "restartCount": 1}
    ours = history(OURS, (0, pod("u-1")), (6, pod("u-1", "10.0.0.9", "Failed", ENDED)))
    theirs = history(THEIRS, (0, pod("u-2")), (6, pod("u-2", "10.0.0.9", "Running", again)))
    ours.deleted = theirs.deleted = 5.0
    assert kinds(ours, theirs) == set()
    assert kinds(theirs, ours) != set()
    add_event(theirs, "Unhealthy", "no", kind="Warning", at=4.9)
    add_event(theirs, "Pulled", "again", at=6)
    assert kinds(ours, theirs) == set()
    add_event(theirs, "Unhealthy", "earlier", kind="Warning", at=1)
    assert kinds(ours, theirs) == {"event Warning Unhealthy: earlier (only kubelet)"}


def test_a_pass_that_goes_on_over_an_eviction_is_left_out_too() -> None:
    again = {**running(), "restartCount": 1}
    message = 'Usage of EmptyDir volume "small" exceeds the limit "100Ki". '
    ours = history(OURS, (0, pod("u-1")), (9, failed("u-1", reason="Evicted", message=message)))
    lasts = pod("u-2", "10.0.0.9", "Running", again), failed("u-2", reason="Evicted", message=message)
    theirs = history(THEIRS, (0, pod("u-2")), (7, lasts[0]), (9, lasts[1]))
    add_event(theirs, "Killing", "Stopping container main", at=7.5, of="main")
    assert kinds(ours, theirs) != set()
    for side in (ours, theirs):
        add_event(side, "Evicted", message, kind="Warning", at=6)
    assert kinds(ours, theirs) == set()


def test_how_often_an_event_has_come_by_the_moment_up_to_which_is_compared_is_not_known() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    for side, count, last in ((ours, 3, 5.0), (theirs, 20, 15.0)):
        add_event(side, "Unhealthy", "no", count, "Warning", at=1, last=last)
    assert kinds(ours, theirs) == {"count of event Warning Unhealthy: no"}
    assert kinds(until(ours, 10), until(theirs, 10)) == set()
    assert not unexplained(compare(until(ours, 10), until(theirs, 10)))
