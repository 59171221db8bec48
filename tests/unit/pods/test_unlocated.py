"""The last status of pods whose containers no instance has is a kubelet's, whatever the API's status said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vk_provider.jsontypes import Json
from vk_provider.pods.provider_status import build_terminated_status, build_unstarted_status
from vk_provider.pods.unlocated import has_ended, is_untold

from .unlocated import DELETED, ENDED, THEN, all_cases, describe, ended, make_pod, runs, told, waits

NOW = "2026-02-02T00:00:00Z"
HOST = ("192.0.2.1",)
CASES = all_cases()
RECORDED: dict[str, list[str]] = json.loads((Path(__file__).parent / "unlocated.json").read_text())


def build(pod: Json, *, is_ended: bool) -> Json:
    if is_ended:
        return build_terminated_status(pod, pod["status"], THEN, HOST, NOW)
    return build_unstarted_status(pod, None, THEN, HOST, NOW)


@pytest.mark.parametrize("name", CASES)
def test_the_status_is_what_a_kubelet_with_an_empty_runtime_gives(name: str) -> None:
    pod, is_ended = CASES[name]
    recorded = RECORDED.get(name) or RECORDED[name.rsplit(", ", 1)[0]]
    status = build(pod, is_ended=is_ended)
    assert describe(status) == recorded
    assert not is_untold(pod, status), "it says all there is to say"


def test_each_recorded_status_has_its_case() -> None:
    assert RECORDED.keys() <= CASES.keys() | {name.rsplit(", ", 1)[0] for name in CASES}


def pod_of(status: Json, *, deleted: bool = False) -> Json:
    return make_pod(status, "Never", init=False, deleted=deleted)


@pytest.mark.parametrize("name", ["both succeeded", "one failed", "one failed, succeeded"])
def test_a_pod_whose_containers_have_all_ended_has_nothing_to_be_told(name: str) -> None:
    assert not is_untold(pod_of(ENDED[name]), ENDED[name])
    assert has_ended(pod_of(ENDED[name]), ENDED[name])


@pytest.mark.parametrize("name", ["rejected", "nothing", "both run", "creating", "crash loop"])
def test_a_pod_with_a_container_without_an_end_has(name: str) -> None:
    assert is_untold(pod_of(ENDED[name]), ENDED[name])
    assert not has_ended(pod_of(ENDED[name]), ENDED[name])


def test_containers_behind_an_init_container_that_failed_need_no_end() -> None:
    status = told("Failed", [waits("a", "PodInitializing"), waits("b", "PodInitializing")], [ended("i", 3)])
    pod = make_pod(status, "Never", init=True, deleted=False)
    assert not is_untold(pod, status)


def test_a_pod_keeps_the_addresses_that_it_had_and_one_that_had_none_has_its_nodes() -> None:
    places = {
        "hostIP": "10.0.0.5",
        "hostIPs": [{"ip": "10.0.0.5"}],
        "podIP": "10.1.0.5",
        "podIPs": [{"ip": "10.1.0.5"}],
    }
    status = build(pod_of({**DELETED["both run"], **places}, deleted=True), is_ended=False)
    assert {name: status[name] for name in places} == places
    status = build(pod_of(DELETED["nothing"], deleted=True), is_ended=False)
    assert (status["hostIP"], status["hostIPs"], status.get("podIP")) == (HOST[0], [{"ip": HOST[0]}], None)


def test_an_ephemeral_container_that_ran_waits_as_on_a_kubelet() -> None:
    """TerminatePod ends regular and init containers alone."""
    status = {**DELETED["both run"], "ephemeralContainerStatuses": [runs("e")]}
    pod = pod_of(status, deleted=True)
    pod["spec"]["ephemeralContainers"] = [{"name": "e", "image": "img"}]
    (found,) = build(pod, is_ended=False)["ephemeralContainerStatuses"]
    assert found["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert found["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_the_newest_status_of_this_process_counts_before_the_apis() -> None:
    pod = pod_of({"phase": "Pending"}, deleted=True)
    status = build_unstarted_status(pod, told("Running", [ended("a", 0), ended("b", 0)]), THEN, HOST, NOW)
    assert status["phase"] == "Succeeded"
