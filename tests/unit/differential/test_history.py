"""What a history takes from the watches, and when its pod has begun or says why not."""

from tests.differential.history import History, has_begun
from tests.unit.differential.histories import OURS, add_event, container, history, pod, running


def test_a_container_that_runs_or_ran_has_begun_and_one_that_waits_has_not() -> None:
    assert has_begun(pod("u", "10.0.0.9", "Running", running()))
    assert has_begun(pod("u", "10.0.0.9", "Running", container(terminated={"exitCode": 1})))
    assert not has_begun(pod("u", "10.0.0.9", "Pending", container(waiting={"reason": "ContainerCreating"})))


def test_the_last_words_about_a_pod_that_had_the_name_before_are_not_taken() -> None:
    made = History(OURS, "nodeless")
    made.on_pod("MODIFIED", pod("old"))
    made.on_pod("DELETED", pod("old"))
    made.on_pod("ADDED", pod("new"))
    made.on_pod("DELETED", pod("old"))
    assert [version.pod["metadata"]["uid"] for version in made.versions] == ["new"]
    assert made.gone is None


def test_a_pod_that_waits_without_a_reason_may_still_start_and_one_with_a_reason_is_in_trouble() -> None:
    starting = container(waiting={"reason": "ContainerCreating"})
    assert not history(OURS, (0, pod("u", "10.0.0.9", "Pending", starting))).is_troubled()
    broken = container(waiting={"reason": "CreateContainerConfigError"})
    assert history(OURS, (0, pod("u", "10.0.0.9", "Pending", broken))).is_troubled()
    assert history(OURS, (0, pod("u", "10.0.0.9", "Failed", starting))).is_troubled()
    warned = history(OURS, (0, pod("u", "10.0.0.9", "Pending", starting)))
    add_event(warned, "FailedMount", "absent", kind="Warning")
    assert warned.is_troubled()
    unscheduled = [{"type": "PodScheduled", "status": "False"}]
    assert history(OURS, (0, pod("u", "10.0.0.9", "Pending", starting, conditions=unscheduled))).is_troubled()


def test_the_versions_around_a_moment_begin_with_the_one_that_held_before() -> None:
    made = history(OURS, (0, pod("a")), (5, pod("b")), (9, pod("c")))
    assert [item["metadata"]["uid"] for item in made.between(6, 8)] == ["b"]
    assert [item["metadata"]["uid"] for item in made.between(4, 9)] == ["a", "b", "c"]
