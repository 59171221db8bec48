"""What shows that each row of README's "Different from a kubelet on purpose" is true: a known difference, whose case is
played with every run, a test of this node's side, or a rule of the comparison with an example of what it takes away."""

from __future__ import annotations

from dataclasses import dataclass

TITLE = "## Different from a kubelet on purpose"


@dataclass(frozen=True, slots=True)
class Evidence:
    """At least one of them.

    known: names of entries in known.KNOWN
    tests: "path below tests::name"
    rules: name of a rule in normalise.TEXT_RULES -> a text that it changes
    """

    known: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()


_SAID_AT_ONCE = "why a container does not start is said at once"
_PHASE = "a terminal phase that another writer sets ends no running container"
_LOST = "unit/pods/test_lost_updates.py"
_FIRST = "unit/pods/test_first_sight.py"
_RESTARTS = "unit/agent/worker/test_restarts.py"
_TIMES = "unit/agent/worker/probes/test_probe_times.py"
_RESIZER = "unit/agent/worker/test_resizer.py"
_LATER = "unit/differential/test_later.py"

EVIDENCE: dict[str, Evidence] = {
    "reason and message that another writer sets": Evidence(
        known=("reason and message of another writer are put away",),
        tests=(f"{_LATER}::test_words_of_another_that_only_a_kubelet_keeps_are_known",),
    ),
    "a waiting pod, too, goes on after a terminal phase": Evidence(
        known=(_PHASE,), tests=(f"{_LATER}::test_a_waiting_pod_that_a_foreign_phase_has_ended_is_one_known_difference",)
    ),
    "observedGeneration of a condition": Evidence(known=("observedGeneration of a condition is put right",)),
    "why a resize failed is in the condition at once": Evidence(known=("why a resize fails is said at once",)),
    "an event, `ImageFetched`, says": Evidence(known=("where an image came from",)),
    "`ErrImagePull` may be skipped": Evidence(
        known=(_SAID_AT_ONCE,), tests=(f"{_LATER}::test_a_failed_pull_that_is_backed_off_here_at_once_is_known",)
    ),
    "a deletion cuts a pass short": Evidence(
        tests=(
            f"{_RESTARTS}::test_a_stop_during_a_restart_tells_the_end",
            "integration/agent/test_worker_end.py::test_deletion_during_a_post_start_hook_does_not_wait_for_it",
            "unit/differential/test_meeting.py::test_a_pass_that_goes_on_over_an_eviction_is_left_out_too",
        )
    ),
    "the text of a memory resize below what is used": Evidence(
        tests=("integration/agent/test_worker_end.py::test_memory_that_is_in_use_is_not_taken_away",),
        rules=(("memory in use", "attempting to set pod memory limit (1) below current usage (4096)"),),
    ),
    "the first startup or liveness probe": Evidence(
        tests=(
            f"{_TIMES}::test_what_survives_its_start_on_some_kubelet_survives_here",
            f"{_TIMES}::test_a_container_starts_at_most_a_period_later_than_on_a_kubelet",
        )
    ),
    "where the API would refuse a container's way back": Evidence(
        tests=(
            "unit/pods/test_transitions.py::"
            "test_a_container_that_runs_again_after_a_final_end_does_not_freeze_the_status",
        )
    ),
    "during a restart the states of the other containers": Evidence(
        tests=(f"{_RESTARTS}::test_while_one_container_is_restarted_the_others_are_shown_as_they_are",)
    ),
    "a status that another writer changed is put right": Evidence(
        tests=(
            f"{_LOST}::test_what_another_writer_sets_is_put_right",
            f"{_LOST}::test_two_writers_who_correct_each_other_do_so_every_ten_seconds",
        )
    ),
    "a terminal phase that another writer sets never ends": Evidence(known=(_PHASE,)),
    "a Pending status shows the podIP": Evidence(known=("the pod's address is known before its sandbox",)),
    "events about instances have the source": Evidence(
        tests=("unit/pods/test_node_checks.py::test_events_about_instances_are_the_providers_own",)
    ),
    "a resize that the pod's instance cannot hold": Evidence(
        tests=(
            "integration/agent/test_worker_end.py::test_a_resize_beyond_the_instance_is_infeasible",
            f"{_RESIZER}::test_a_resize_that_the_instance_cannot_hold_waits_and_is_dropped_when_it_is_taken_back",
        )
    ),
    "a pod-level memory limit is never set below": Evidence(
        tests=(f"{_RESIZER}::test_a_pod_limit_below_what_the_pod_uses_is_an_error_of_the_resize_that_started",)
    ),
    "on cgroup v1 a pod without a memory limit": Evidence(
        tests=(
            "unit/differential/test_normalise.py::"
            "test_where_one_says_that_nobody_has_set_a_limit_the_other_may_say_any",
        )
    ),
    "`status.resources` turns from allocated": Evidence(
        tests=(
            "unit/agent/worker/status/test_status_resources.py::"
            "test_an_inherited_limit_is_shown_beside_a_limit_of_its_own",
        )
    ),
    "`ExtendWebSocketsToKubelet` is not declared": Evidence(
        known=("exec into a container that does not run",),
        tests=("unit/node/test_object.py::test_nothing_is_declared_that_the_kubelet_api_does_not_speak",),
    ),
    "an event and a condition say which instance": Evidence(known=("the choice of an instance",)),
    "`Pulled` comes also for a container that never starts": Evidence(known=("images are fetched ahead",)),
    "the end of an evicted pod's containers": Evidence(
        tests=(f"{_LATER}::test_an_end_that_a_kubelet_has_lost_with_an_eviction_is_left_out",)
    ),
    "why a container does not start is said at once": Evidence(known=(_SAID_AT_ONCE,)),
    "an emptyDir over its sizeLimit": Evidence(
        tests=("integration/agent/test_worker_upkeep.py::test_an_empty_dir_beyond_its_limit_evicts_the_pod",)
    ),
    "exec into a container that does not run": Evidence(known=("exec into a container that does not run",)),
    "a gRPC probe dials more often": Evidence(known=("a gRPC probe dials more often",)),
    "a malformed HTTP answer": Evidence(
        tests=("integration/agent/test_probe_texts.py::test_a_probe_finds_and_tells_the_same_as_a_kubelets",)
    ),
    "a second deletion with a shorter grace": Evidence(
        known=("a second deletion with a shorter grace counts at once",)
    ),
    "a resize of a pod that has ended": Evidence(known=("a resize of a pod that has ended starts nothing",)),
    "what the instance cannot do is refused": Evidence(
        known=(
            "recursive read-only mounts are refused where the runtime has none",
            "image volumes are refused where the runtime has none",
            "storage that is attached is refused",
            "user namespaces are refused",
        )
    ),
    "extended resources that somebody put on the Node": Evidence(
        tests=("unit/node/test_controller.py::test_an_extended_resource_outlives_the_provider",)
    ),
    "a pod that has ended and says how each container did": Evidence(
        tests=(f"{_FIRST}::test_a_pod_that_has_ended_well_is_left_as_it_is",)
    ),
    "a deleted pod that ran, and whose instance is gone": Evidence(
        tests=(f"{_FIRST}::test_a_deleted_pod_that_still_ran_and_whose_instance_is_gone_has_lost_it",)
    ),
    "an object is deleted in the end although": Evidence(
        tests=(
            "unit/pods/test_final_delete.py::"
            "test_the_object_may_be_deleted_with_a_terminal_phase_or_when_it_takes_none",
        )
    ),
    "a hostPath in a shared directory": Evidence(
        tests=("integration/agent/test_shared_paths.py::test_a_link_out_of_the_shared_directory_is_not_followed",)
    ),
    "`activeDeadlineSeconds` counts the launch": Evidence(
        tests=(
            "unit/pods/test_deadline.py::"
            "test_a_pod_whose_deadline_passes_before_its_agent_answers_fails_and_costs_nothing_more",
        )
    ),
    "a changed ConfigMap or Secret makes a pass": Evidence(
        tests=(
            "unit/agent/worker/test_services.py::test_a_changed_service_makes_no_pass_as_with_a_kubelet_but_is_kept",
            "unit/agent/worker/test_passes.py::"
            "test_a_pass_probes_what_is_not_ready_once_however_often_its_status_is_computed",
        )
    ),
    "MissingClusterDNS is an event of the pod only": Evidence(
        tests=(
            "unit/podmodel/test_dns.py::test_without_cluster_dns_the_instances_is_used_and_said_so",
            "unit/agent/worker/test_kubelet_cases.py::test_a_kubelet_decides_the_same",
        )
    ),
}
"""The beginning of a row's first cell -> what shows it."""


def rows(readme: str) -> list[str]:
    """First cells of the section's table."""
    section = readme.partition(TITLE)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.removeprefix("| ").partition(" |")[0] for line in lines[1:]]


def evidence_of(row: str) -> list[Evidence]:
    """Of one row; there should be exactly one."""
    return [found for beginning, found in EVIDENCE.items() if row.startswith(beginning)]
