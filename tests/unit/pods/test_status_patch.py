"""The PATCH between two statuses."""

from __future__ import annotations

import copy
from typing import Any

from vk_provider.pods.status_patch import (
    as_sent,
    build_status_patch,
    find_altered,
    is_published,
    owned_status,
    share_status,
)

READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
UNREADY = {
    "type": "Ready",
    "status": "False",
    "reason": "ContainersNotReady",
    "message": "m",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
STATUS: dict[str, Any] = {
    "phase": "Running",
    "conditions": [READY],
    "podIP": "10.0.0.2",
    "containerStatuses": [{"name": "c", "ready": True}],
}


def patch_of(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = build_status_patch("uid-1", before, after)["status"]
    return status


def test_the_first_patch_carries_everything_and_the_uid() -> None:
    patch = build_status_patch("uid-1", None, STATUS)
    assert patch == {"metadata": {"uid": "uid-1"}, "status": STATUS}


def test_nothing_new_is_an_empty_patch() -> None:
    assert patch_of(STATUS, STATUS) == {}


def test_only_changed_fields_are_sent() -> None:
    assert patch_of(STATUS, {**STATUS, "phase": "Failed", "reason": "Evicted"}) == {
        "phase": "Failed",
        "reason": "Evicted",
    }


def test_a_field_that_is_gone_is_nulled() -> None:
    assert patch_of({**STATUS, "reason": "x"}, STATUS) == {"reason": None}


def test_an_amount_that_is_gone_is_nulled_as_maps_are_merged() -> None:
    before = {"allocatedResources": {"cpu": "1", "memory": "1Gi"}, "resources": {"limits": {"cpu": "1"}}}
    after = {"allocatedResources": {"cpu": "1"}, "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}}
    assert patch_of(before, after) == {
        "allocatedResources": {"memory": None, "cpu": "1"},
        "resources": {"limits": {"cpu": None, "memory": "1Gi"}, "requests": {"cpu": "1"}},
    }
    assert patch_of(before, {"resources": {}}) == {"allocatedResources": None, "resources": {"limits": None}}


def test_a_pod_that_asks_for_nothing_says_so_once() -> None:
    status = owned_status({**STATUS, "resources": {}, "allocatedResources": {}})
    assert patch_of(STATUS, status) == {"resources": {}}
    assert patch_of(status, status) == {}
    # An API server that does not know the field drops it: that is no reason to send it again.
    altered = find_altered({"resources": {}}, status, STATUS)
    assert is_published(as_sent(STATUS, altered), status)


def test_a_condition_that_loses_reason_and_message_nulls_them() -> None:
    before = {**STATUS, "conditions": [UNREADY]}
    assert patch_of(before, STATUS)["conditions"] == [{"reason": None, "message": None, **READY}]


def test_a_passing_condition_is_deleted_and_a_foreign_one_never() -> None:
    resize = {"type": "PodResizePending", "status": "True"}
    disruption = {"type": "DisruptionTarget", "status": "True"}
    before = {**STATUS, "conditions": [READY, resize, disruption]}
    assert patch_of(before, STATUS)["conditions"] == [{"$patch": "delete", "type": "PodResizePending"}]


def test_conditions_of_others_are_not_ours() -> None:
    status = {**STATUS, "conditions": [READY, {"type": "example.com/Gate", "status": "True"}], "qosClass": "BestEffort"}
    assert owned_status(status) == STATUS


def test_a_rejected_pod_has_no_condition_of_the_kubelets() -> None:
    """rejectPod sets a status without conditions, and mergePodStatus keeps those of others only."""
    before = {**STATUS, "conditions": [READY, {"type": "PodScheduled", "status": "True"}]}
    rejected = {"phase": "Failed", "reason": "OutOfcpu"}
    deleted = [{"$patch": "delete", "type": "Ready"}, {"$patch": "delete", "type": "PodScheduled"}]
    assert patch_of(before, rejected)["conditions"] == deleted


def test_published_means_the_patch_would_be_empty() -> None:
    assert not is_published({**STATUS, "startTime": "a"}, {**STATUS, "startTime": "b"})
    assert is_published({**STATUS, "startTime": "a"}, {**STATUS, "startTime": "a"})
    assert not is_published(None, STATUS)
    assert not is_published({**STATUS, "conditions": [UNREADY]}, STATUS)


def test_a_null_field_is_no_difference() -> None:
    assert patch_of({**STATUS, "conditions": [{**READY, "lastProbeTime": None}]}, STATUS) == {}


def test_another_address_replaces_the_first_one_which_would_stay_otherwise() -> None:
    before = {**STATUS, "podIPs": [{"ip": "10.0.0.2"}], "hostIPs": [{"ip": "10.0.0.1"}]}
    after = {**before, "podIPs": [{"ip": "10.0.0.4"}]}
    assert patch_of(before, after) == {"podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.4"}]}
    assert patch_of(STATUS, before)["podIPs"] == [{"ip": "10.0.0.2"}]


def test_an_object_of_the_api_has_what_is_equal_of_the_held_status_and_says_the_same() -> None:
    foreign = {"type": "example.com/Gate", "status": "True"}
    with_null = {**UNREADY, "lastProbeTime": None}
    held = copy.deepcopy({**STATUS, "conditions": [READY, UNREADY | {"type": "ContainersReady"}]})
    said = {**STATUS, "phase": "Pending", "qosClass": "Burstable", "conditions": [foreign, with_null, READY]}
    pod = {"metadata": {"name": "p"}, "status": copy.deepcopy(said)}
    share_status(pod, held)
    status: Any = pod["status"]
    assert status == said
    assert status["containerStatuses"] is held["containerStatuses"]
    assert status["conditions"][2] is held["conditions"][0]
    assert status["phase"] is not held["phase"]


def test_without_a_status_there_is_nothing_to_share() -> None:
    for pod in ({"metadata": {}}, {"metadata": {}, "status": {}}, {"metadata": {}, "status": None}):
        before = copy.deepcopy(pod)
        share_status(pod, STATUS)
        share_status(pod, None)
        assert pod == before
