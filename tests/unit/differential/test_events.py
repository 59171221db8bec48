"""What of the events counts as a difference, and what depends on the moment alone."""

import json
from typing import Any

import pytest

from tests.differential.compare import compare
from tests.differential.history import History
from tests.differential.known import unexplained
from tests.unit.differential.histories import OURS, THEIRS, add_event, container, history, pod, running
from vk_provider.jsontypes import Json

ERRORED = "Readiness probe errored and resulted in unknown state: rpc error: code = Unknown desc = "
MEETING = ERRORED + "failed to exec in container: container is in CONTAINER_EXITED state"


def kinds(*sides: History) -> set[str]:
    return {difference.kind for difference in compare(*sides)}


def twins() -> tuple[History, History]:
    return history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))


def crashing(namespace: str, uid: str) -> History:
    crashed = {**container(waiting={"reason": "CrashLoopBackOff"}), "restartCount": 2}
    return history(namespace, (0, pod(uid)), (19, pod(uid, "10.0.0.9", "Running", crashed)))


def test_an_event_of_one_side_is_a_difference_and_numbers_and_names_stay_out_of_its_kind() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    add_event(theirs, "Unhealthy", "Liveness probe failed: got {500}", kind="Warning")
    assert kinds(ours, theirs) == {"event Warning Unhealthy: Liveness probe failed: got {N} (only kubelet)"}


def test_counts_of_events_may_differ_a_little_and_not_much() -> None:
    for count, expected in ((6, set()), (25, {"count of event Warning Unhealthy: no"})):
        ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
        add_event(ours, "Unhealthy", "no", 5, "Warning")
        add_event(theirs, "Unhealthy", "no", count, "Warning")
        assert kinds(ours, theirs) == expected


def test_an_event_just_before_the_deletion_may_have_been_due_after_it() -> None:
    ours, theirs = history(OURS, (0, pod("u-1"))), history(THEIRS, (0, pod("u-2")))
    add_event(ours, "BackOff", "late", at=18.5)
    assert kinds(ours, theirs) == set()


def test_a_resize_that_starts_after_the_end_of_the_pod_has_a_kind_of_its_own() -> None:
    versions = ((0, pod("u-2")), (5, pod("u-2", "10.0.0.9", "Failed", container(terminated={"exitCode": 1}))))
    ours, theirs = history(OURS, *versions), history(THEIRS, *versions)
    add_event(theirs, "ResizeStarted", "Pod resize started: {}", at=9)
    assert kinds(ours, theirs) == {"event Normal ResizeStarted: (after the end) Pod resize started: {} (only kubelet)"}
    theirs.events.clear()
    add_event(theirs, "ResizeStarted", "Pod resize started: {}", at=4)
    assert kinds(ours, theirs) == {"event Normal ResizeStarted: Pod resize started: {} (only kubelet)"}


def test_what_is_recorded_in_every_pass_counts_by_being_there_and_by_whether_passes_have_a_pause() -> None:
    for ours_count, expected in ((9, set()), (30, {"count of event Warning BackOff: again"})):
        ours, theirs = twins()
        add_event(ours, "BackOff", "again", ours_count, "Warning")
        add_event(theirs, "BackOff", "again", 2, "Warning")
        assert kinds(ours, theirs) == expected
    add_event(ours, "BackOff", "another", 1, "Warning")
    assert "event Warning BackOff: another (only here)" in kinds(ours, theirs)


@pytest.mark.parametrize(
    "late",
    ["failed to sync configmap cache: timed out waiting for the condition", 'object "x"/"files" not registered'],
)
def test_a_late_watch_is_no_difference_and_only_a_kubelet_has_one(late: str) -> None:
    ours, theirs = twins()
    add_event(theirs, "FailedMount", late)
    assert kinds(ours, theirs) == set()
    add_event(ours, "FailedMount", late)
    assert kinds(ours, theirs) == {f"event Normal FailedMount: {late} (only here)"}


def test_a_probe_that_meets_the_end_of_its_container_is_no_difference_and_one_that_cannot_run_is() -> None:
    ours, theirs = twins()
    add_event(theirs, "Unhealthy", MEETING, kind="Warning", of="main", at=19.9, last=20.9)
    add_event(theirs, "Unhealthy", "Readiness probe failed: ", kind="Warning", of="main", at=20.5)
    assert kinds(ours, theirs) == set()
    refused = ERRORED + "failed to exec in container: failed to start exec: no such file"
    add_event(ours, "Unhealthy", refused, kind="Warning", of="main")
    assert len(kinds(ours, theirs)) == 1


def test_probes_of_a_container_that_has_ended_are_a_difference_when_they_come_more_often_than_it_ends() -> None:
    for count, at, expected in ((3, 20.5, 0), (4, 20.5, 1), (1, 9.0, 1)):
        ours, theirs = twins()
        add_event(ours, "Unhealthy", MEETING, count, "Warning", of="main", at=at)
        assert len(kinds(ours, theirs)) == expected


@pytest.mark.parametrize("slow_side_runs", [True, False])
def test_the_stop_of_a_container_is_none_where_it_ran_on_one_side_only_between_two_runs(slow_side_runs: bool) -> None:
    ours = history(OURS, (0, pod("u-1")))
    theirs = history(THEIRS, (0, pod("u-2"))) if slow_side_runs else crashing(THEIRS, "u-2")
    add_event(ours, "Killing", "Stopping container main", at=20.5, of="main")
    found = {kind for kind in kinds(ours, theirs) if "Killing" in kind}
    expected = "event Normal Killing: Stopping container C @spec.containers{C} (only here)"
    assert found == ({expected} if slow_side_runs else set())


def test_a_stop_that_is_never_said_is_a_difference_however_shortly_after_the_deletion_it_is_due() -> None:
    ours, theirs = twins()
    add_event(theirs, "Killing", "Stopping container main", at=20.1, of="main")
    assert kinds(ours, theirs) == {
        "event Normal Killing: Stopping container C @spec.containers{C} (only kubelet)",
    }


@pytest.mark.parametrize("exit_code", [3, 137])
def test_the_stop_of_a_container_is_none_where_it_ended_by_itself_as_the_pod_was_deleted(exit_code: int) -> None:
    def ending(namespace: str, uid: str) -> History:
        def version(finished: str, **metadata: Any) -> Json:
            end = {"exitCode": exit_code, "finishedAt": finished}
            made = pod(uid, "10.0.0.9", "Running", {**container(running={}), "lastState": {"terminated": end}})
            made["status"]["containerStatuses"][0]["restartCount"] = 1
            return {**made, "metadata": {**made["metadata"], **metadata}}

        deleted = {"deletionTimestamp": "2026-11-28T10:00:33Z", "deletionGracePeriodSeconds": 3}
        last = version("2026-11-28T10:00:30Z", **deleted)
        return history(namespace, (0, version("2026-11-28T10:00:10Z")), (20.5, last))

    ours, theirs = ending(OURS, "u-1"), ending(THEIRS, "u-2")
    add_event(theirs, "Killing", "Stopping container main", at=20.5, of="main")
    found = {kind for kind in kinds(ours, theirs) if "Killing" in kind}
    assert bool(found) == (exit_code == 137)


@pytest.mark.parametrize("at", [10.0, 19.0])
def test_the_stop_of_a_container_is_none_where_a_probe_was_stopping_it_as_the_pod_was_deleted(at: float) -> None:
    again = {**container(running={}), "restartCount": 1}
    ours, theirs = (history(n, (0, pod(u, "10.0.0.9", "Running", again))) for n, u in ((OURS, "u-1"), (THEIRS, "u-2")))
    for side in (ours, theirs):
        add_event(side, "Killing", "Container main failed startup probe, will be restarted", at=at, of="main")
    add_event(theirs, "Killing", "Stopping container main", at=20.5, of="main")
    assert bool(kinds(ours, theirs)) == (at == 10.0)


def test_a_stop_that_has_another_cause_than_the_deletion_is_a_difference_though_nothing_ran_then() -> None:
    def ended(namespace: str, uid: str) -> History:
        last = pod(uid, "10.0.0.9", "Failed", container(terminated={"exitCode": 137}), reason="DeadlineExceeded")
        return history(namespace, (0, pod(uid)), (5, last))

    ours, theirs = ended(OURS, "u-1"), ended(THEIRS, "u-2")
    add_event(theirs, "Killing", "Stopping container main", at=5, of="main")
    assert kinds(ours, theirs) == {"event Normal Killing: Stopping container C @spec.containers{C} (only kubelet)"}


@pytest.mark.parametrize("killed", [True, False])
def test_a_back_off_after_the_deletion_is_none_where_a_probe_was_restarting_the_container_then(killed: bool) -> None:
    ours, theirs = twins()
    add_event(theirs, "BackOff", "again", 1, "Warning", at=21.5, of="main")
    if killed:
        for side in (ours, theirs):
            add_event(
                side, "Killing", "Container main failed startup probe, will be restarted", at=8, last=19, of="main"
            )
    assert kinds(ours, theirs) == (
        set() if killed else {"event Warning BackOff: again @spec.containers{C} (only kubelet)"}
    )


def test_an_image_that_is_fetched_ahead_is_known_for_a_container_that_never_starts_and_for_no_other() -> None:
    waits = container(waiting={"reason": "PodInitializing"})
    gave_up = container(terminated={"exitCode": 137, "reason": "ContainerStatusUnknown"})
    ended = container(terminated={"exitCode": 1, "reason": "Error"})
    for status, expected in ((waits, 0), (gave_up, 0), (running(), 1), (ended, 1)):
        ours, theirs = (
            history(namespace, (0, pod(uid, "10.0.0.9", "Pending", status)))
            for namespace, uid in ((OURS, "u-1"), (THEIRS, "u-2"))
        )
        add_event(ours, "Pulled", "image is there", of="main")
        assert len(unexplained(compare(ours, theirs))) == expected


def test_a_reason_that_the_kubelet_says_a_sync_later_is_known_and_one_that_it_never_says_is_not() -> None:
    waiting, crashed = container(waiting={"reason": "CrashLoopBackOff"}), container(terminated={"exitCode": 1})
    for begin, expected in ((12, 0), (2, 1)):
        ours = history(OURS, (0, pod("u-1")), (begin, pod("u-1", "10.0.0.9", "Running", waiting)), (19, pod("u-1")))
        theirs = history(THEIRS, (0, pod("u-2")), (begin, pod("u-2", "10.0.0.9", "Running", crashed)), (19, pod("u-2")))
        lasting = [item for item in compare(ours, theirs) if item.kind.startswith("lasting only here")]
        assert len(unexplained(lasting)) == expected and lasting


def test_which_back_off_a_pass_meets_depends_on_when_it_comes_if_the_new_image_cannot_be_pulled() -> None:
    for both, expected in ((True, 0), (False, 1)):
        ours, theirs = twins()
        add_event(theirs, "BackOff", "Back-off restarting failed container main in pod x", 1, "Warning", of="main")
        for side in (ours, theirs) if both else ():
            add_event(side, "BackOff", 'Back-off pulling image "x"', of="main")
        assert len(kinds(ours, theirs)) == expected


@pytest.mark.parametrize(("spent", "expected"), [(25, 0), (24, 1)])
def test_which_stops_are_said_when_a_pod_has_used_up_its_events_is_chance(spent: int, expected: int) -> None:
    ours, theirs = twins()
    for side in (ours, theirs):
        add_event(side, "Pulled", "image is there", spent, of="main")
    add_event(theirs, "Killing", "Stopping container main", at=20.1, of="main")
    assert len(kinds(ours, theirs)) == expected


@pytest.mark.parametrize(("pulled", "expected"), [(8.0, 0), (2.0, 1)])
def test_a_back_off_that_a_kubelet_would_say_with_its_next_pass_is_none(pulled: float, expected: int) -> None:
    ours, theirs = twins()
    for side in (ours, theirs):
        add_event(side, "Failed", "Error: ErrImagePull", kind="Warning", at=pulled, of="main")
    add_event(ours, "BackOff", 'Back-off pulling image "x"', at=12, of="main")
    assert len(kinds(ours, theirs)) == expected


@pytest.mark.parametrize("said", ["failed liveness probe", "failed startup probe", "is done"])
def test_a_sidecar_that_is_killed_for_its_probe_as_its_pod_is_deleted_counts_as_ending(said: str) -> None:
    side = {**running(), "name": "side0", "restartCount": 0}
    ours, theirs = (
        history(namespace, (0, pod(uid, "10.0.0.9", "Running", {**side, "restartCount": count})))
        for namespace, uid, count in ((OURS, "u-1", 0), (THEIRS, "u-2", 1))
    )
    add_event(ours, "Killing", f"Init container side0 {said}", at=18.5, of="side0")
    add_event(theirs, "Killing", f"Init container side0 {said}", at=16.5, of="side0")
    add_event(theirs, "Killing", "Stopping container side0", at=20.1, of="side0")
    found = {kind for kind in kinds(ours, theirs) if "Stopping" in kind}
    assert bool(found) == (said == "is done")


def test_that_a_probe_has_met_an_end_on_one_side_is_no_reason_to_miss_it_there() -> None:
    ours = history(OURS, (0, pod("u-1")))
    ended = pod("u-2", "10.0.0.9", "Running", container(terminated={"exitCode": 1}))
    theirs = history(THEIRS, (0, pod("u-2")), (5, ended))
    add_event(ours, "Unhealthy", "Liveness probe failed: ", kind="Warning", at=10, of="main")
    assert any("Liveness" in kind for kind in kinds(ours, theirs))
    add_event(theirs, "Unhealthy", "Liveness probe failed: ", kind="Warning", at=5, of="main")
    assert not any("Liveness" in kind for kind in kinds(ours, theirs))


@pytest.mark.parametrize("here", [0, 1])
@pytest.mark.parametrize("changed", [True, False])
def test_an_image_that_is_changed_before_the_next_pass_has_no_back_off_to_tell_of(here: int, changed: bool) -> None:
    def side(namespace: str, uid: str) -> History:
        specs = [{"containers": [{"name": "main", "image": image}]} for image in ("a", "b" if changed else "a")]
        return history(namespace, *((at, {**pod(uid), "spec": spec}) for at, spec in zip((0, 3), specs, strict=True)))

    sides = side(OURS, "u-1"), side(THEIRS, "u-2")
    for each in sides:
        add_event(each, "Failed", "Error: ErrImagePull", kind="Warning", at=1, of="main")
        add_event(each, "Pulled", "b", at=3, of="main")
    add_event(sides[here], "BackOff", 'Back-off pulling image "a"', at=2, of="main")
    assert any("Back-off" in kind for kind in kinds(*sides)) != changed


def completed(generation: int, cpu: str) -> str:
    said = {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}], "generation": generation}
    return f"Pod resize completed: {json.dumps(said)}"


@pytest.mark.parametrize(("cpu", "is_race"), [("10m", True), ("30m", False)])
def test_a_resize_that_a_kubelet_tells_twice_once_with_the_pod_before_is_its_race(cpu: str, is_race: bool) -> None:
    def side(namespace: str, uid: str) -> History:
        versions = []
        for at, generation, asked in ((0, 1, "10m"), (2, 2, "20m")):
            made = pod(uid)
            made["metadata"]["generation"] = generation
            made["spec"] = {"containers": [{"name": "main", "resources": {"requests": {"cpu": asked}}}]}
            versions.append((at, made))
        return history(namespace, *versions)

    ours, theirs = side(OURS, "u-1"), side(THEIRS, "u-2")
    for each in (ours, theirs):
        add_event(each, "ResizeCompleted", completed(2, "20m"), at=3)
    add_event(theirs, "ResizeCompleted", completed(2, cpu), at=2.5)
    assert (kinds(ours, theirs) == set()) == is_race
    assert kinds(theirs, ours) != set()
    del ours.events["x.0"]
    assert kinds(ours, theirs) != set()


@pytest.mark.parametrize("tried", [True, False])
def test_a_pull_that_fails_ahead_is_known_where_the_kubelet_has_not_tried_it(tried: bool) -> None:
    ours, theirs = twins()
    add_event(ours, "Failed", 'Failed to pull image "a": no such image', kind="Warning", of="other")
    if tried:
        add_event(theirs, "Pulling", 'Pulling image "a"', of="other")
        add_event(ours, "Pulling", 'Pulling image "a"', of="other")
    assert bool(unexplained(compare(ours, theirs))) == tried
